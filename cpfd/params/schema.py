"""The schema of params.yaml: the only definition of every knob's type, range and meaning."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cpfd.paths import PIPELINE_FILE

Method = Literal["none", "pfd", "cpfd", "posterior"]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


def usual(low: float, high: float) -> dict[str, Any]:
    """Mark the range of a number, or of a list's length, that practitioners use; outside of it, a review warns."""
    return {"usual": [low, high]}


class Group(BaseModel):
    """A group of knobs; refuses keys that it does not know and values of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def __getattr__(self, name: str) -> Any:
        """Explain a key that `load_params(stage)` took away because dvc.yaml does not list it for that stage."""
        if name in type(self).model_fields:
            raise AttributeError(
                f"{type(self).__name__.lower()}.{name} is read, but {PIPELINE_FILE} does not list it for this stage"
            )
        return super().__getattr__(name)  # type: ignore[misc]


class Dataset(Group):
    """Which data set, and what is asked of it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="folder below data/raw")
    task: Literal["single_label", "multi_label"] = Field(
        description="one class per clip, or any number of classes written as a|b (`|` alone: none of them)"
    )


class Demo(Group):
    """The generated demo data set (docs/demo-dataset.md tells its story)."""

    seed: Seed = Field(description="seed of everything that is generated")
    clips: int = Field(
        ge=24, le=100_000, json_schema_extra=usual(200, 10000), description="clips, the unlabelled ones included"
    )
    creators: int = Field(
        ge=12, le=10_000, json_schema_extra=usual(30, 2000), description="creators that share the clips unevenly"
    )
    creator_skew: float = Field(
        ge=0, le=2, description="exponent of the power law by which clips fall with the creator's rank; 0: all alike"
    )
    topic_ratio: float = Field(ge=1, le=20, description="creators of the most popular topic for one of the least")
    validation_share: float = Field(
        gt=0, lt=0.5, json_schema_extra=usual(0.1, 0.3), description="share of creators, and of clips, for validation"
    )
    test_share: float = Field(
        gt=0, lt=0.5, json_schema_extra=usual(0.1, 0.3), description="share of creators, and of clips, for the test"
    )
    off_topic_rate: Share = Field(description="share of clips outside their creator's main topic")
    unlabelled_share: Share = Field(description="share of the training split that no annotator has seen")
    annotator_error_rate: Share = Field(description="share of training labels that annotators get wrong")
    confusable_error_share: Share = Field(
        description="share of the annotators' errors that go to the topic's look-alike instead of to any other topic"
    )
    look_overlap: Share = Field(description="share of clips filmed in the look of the look-alike topic")
    talking_head_rate: Share = Field(description="share of clips that show a person talking, whatever the topic")
    course_overlap: Share = Field(description="share of clips that move in time as the look-alike topic does")
    wording_overlap: Share = Field(description="share of the words chosen that come from the vocabulary of all topics")
    confusable_wording: Share = Field(description="share of the other words that come from the look-alike's vocabulary")
    missing_caption_rate: Share = Field(description="share of clips without a caption")
    missing_overlay_rate: Share = Field(description="share of clips without text laid over the frames")
    new_creator_rate: Share = Field(description="share of creators too new to have engagement and history features")
    heavy_backlog_rate: Share = Field(description="share of clips that the heavy model has not run on yet")
    boosted_rate: Share = Field(description="share of clips whose engagement and watch curve were bought and mislead")
    careless_category_rate: Share = Field(description="share of clips declared by their creator in a wrong category")
    views_spread: float = Field(ge=0, le=3, description="standard deviation of the logarithm of views")
    reaction_spread: float = Field(
        ge=0, le=3, description="standard deviation of the logarithm of likes, comments and shares per view"
    )
    watch_spread: float = Field(
        ge=0, le=3, description="standard deviation of the logarithm of the watch curve's parameters"
    )


class Split(Group):
    """Training, validation and test split of a data set that brings none."""

    seed: Seed = Field(description="seed of the split")
    validation_share: float = Field(
        gt=0, lt=0.5, json_schema_extra=usual(0.1, 0.3), description="share of labelled clips for validation"
    )
    test_share: float = Field(
        gt=0, lt=0.5, json_schema_extra=usual(0.1, 0.3), description="share of labelled clips for the test"
    )


class Validation(Group):
    """What the data must look like before anything is trained on it."""

    max_quarantine_share: Share = Field(
        json_schema_extra=usual(0, 0.1), description="largest share of clips that may be quarantined"
    )
    min_seconds: float = Field(
        ge=0, json_schema_extra=usual(0, 3), description="shortest clip, seconds (a still image is exempt)"
    )
    max_seconds: float = Field(gt=0, json_schema_extra=usual(10, 600), description="longest clip, seconds")
    min_side: int = Field(ge=1, json_schema_extra=usual(32, 256), description="smallest width or height, pixels")
    max_side: int = Field(ge=1, json_schema_extra=usual(1024, 8192), description="largest width or height, pixels")
    max_megabytes: int = Field(ge=1, json_schema_extra=usual(50, 4096), description="largest file of a clip, MB")
    min_frames: int = Field(ge=1, json_schema_extra=usual(1, 16), description="fewest frames in a clip")
    min_class_clips: int = Field(
        ge=1, json_schema_extra=usual(2, 100), description="fewest labelled clips of a class in the whole data set"
    )
    max_class_ratio: float = Field(
        ge=1, json_schema_extra=usual(5, 1000), description="largest ratio of the most to the least frequent class"
    )
    max_missing_text_share: Share = Field(description="largest share of clips without any text")
    max_missing_dense_share: Share = Field(
        json_schema_extra=usual(0.1, 0.9),
        description="largest share of missing values in a dense column (warning), of clips without any (error)",
    )
    max_drift: float = Field(
        ge=0,
        le=1,
        json_schema_extra=usual(0.05, 0.5),
        description="largest Kolmogorov-Smirnov distance of a dense column to the training split",
    )


class Video(Group):
    """What the student sees of a clip."""

    frames: int = Field(
        ge=1, le=256, json_schema_extra=usual(4, 32), description="frames sampled uniformly in time from each clip"
    )
    size: int = Field(
        ge=32,
        le=1024,
        json_schema_extra=usual(96, 384),
        description="height and width that a frame is resized to, pixels",
    )
    grid: int = Field(
        ge=1, le=16, json_schema_extra=usual(1, 7), description="a frame becomes grid x grid visual tokens"
    )


class Text(Group):
    """What the student reads of a clip."""

    columns: list[Literal["title", "caption", "overlay_text", "transcript"]] = Field(
        min_length=1, description="manifest columns joined in this order; those that a data set lacks are passed over"
    )
    max_tokens: int = Field(
        ge=4,
        le=512,
        json_schema_extra=usual(16, 128),
        description="tokens kept of a clip's text, special tokens included",
    )


class Dense(Group):
    """How the teacher's privileged features are scaled, on the training split alone."""

    scaler: Literal["signed_log", "robust", "quantile"] = Field(
        description="signed_log: sign(x) log(1 + |x|), then standardised; robust: median and interquartile range; "
        "quantile: ranks mapped to a normal distribution"
    )


class Backbone(Group):
    """The pretrained encoders."""

    mode: Literal["frozen", "finetune"] = Field(
        description="frozen: features are computed once; finetune: encoders are trained end to end"
    )
    vision: str = Field(
        min_length=1,
        description="efficientnet-lite0, a transformers vision AutoModel by its name, or its folder in backbones/",
    )
    vision_revision: str | None = Field(description="commit of the vision model on its hub; required for a hub name")
    text: str = Field(
        min_length=1,
        description="all-minilm-l6-v2, a transformers text AutoModel by its name, or its folder in backbones/",
    )
    text_revision: str | None = Field(description="commit of the text model on its hub; required for a hub name")


class Extract(Group):
    """How clips are decoded and encoded."""

    threads: int = Field(ge=1, le=256, description="clips decoded and encoded side by side")
    shard_clips: int = Field(
        ge=1,
        le=100_000,
        json_schema_extra=usual(32, 1024),
        description="clips in a shard, about; a killed run resumes at the last whole one",
    )


class Model(Group):
    """The size of the student (X-VLM) and, with dense tokens, of the teacher (DF-X-VLM)."""

    hidden_size: int = Field(ge=8, le=4096, json_schema_extra=usual(64, 1024), description="width of the fusion layers")
    fusion_layers: int = Field(
        ge=1, le=48, json_schema_extra=usual(1, 6), description="layers in which text attends to visual tokens"
    )
    attention_heads: int = Field(
        ge=1, le=64, json_schema_extra=usual(2, 16), description="attention heads; must divide hidden_size"
    )
    dense_tokens: int = Field(
        ge=1, le=64, json_schema_extra=usual(1, 16), description="tokens that the teacher's dense features become"
    )
    dropout: float = Field(ge=0, lt=1, json_schema_extra=usual(0, 0.5), description="dropout probability")


class Train(Group):
    """The training budget, the same for teacher and every student."""

    threads: int = Field(ge=1, le=256, description="CPU threads of a training run; part of what fixes the bits")
    epochs: int = Field(
        ge=1, le=10_000, json_schema_extra=usual(3, 200), description="most passes over the training split"
    )
    batch_size: int = Field(ge=1, le=65_536, json_schema_extra=usual(8, 512), description="clips in a step")
    learning_rate: float = Field(
        gt=0, le=1, json_schema_extra=usual(1e-5, 1e-2), description="peak learning rate of AdamW"
    )
    weight_decay: float = Field(
        ge=0, le=10, json_schema_extra=usual(0, 0.1), description="decoupled weight decay of AdamW"
    )
    warmup_share: Share = Field(
        json_schema_extra=usual(0, 0.2), description="share of the steps in which the learning rate rises linearly"
    )
    patience: int = Field(
        ge=1,
        json_schema_extra=usual(2, 20),
        description="epochs without a better validation macro-F1 before training stops",
    )
    label_smoothing: float = Field(
        ge=0, lt=1, json_schema_extra=usual(0, 0.2), description="probability mass spread over all classes"
    )
    class_weighting: Literal["none", "balanced"] = Field(
        description="balanced: the label loss of a clip is weighted by the inverse frequency of its class"
    )


class Teacher(Group):
    """The teacher trained on the whole training split."""

    seed: Seed = Field(description="seed of the teacher's training")


class Crossfit(Group):
    """Cross-fitting: every training clip is judged by models that have not seen its label."""

    folds: int = Field(ge=2, le=20, json_schema_extra=usual(3, 10), description="folds of the training split")
    repeats: int = Field(
        ge=1, le=20, json_schema_extra=usual(1, 5), description="how many times the split is dealt into folds anew"
    )
    trees: int = Field(
        ge=0,
        le=10_000,
        json_schema_extra=usual(100, 1000),
        description="trees of the random forest that judges by dense features alone beside each network of the teacher;"
        " 0: networks only",
    )
    seed: Seed = Field(description="seed of the folds, their networks and forests")


class Students(Group):
    """Which students are trained: every method with every seed."""

    methods: list[Method] = Field(
        min_length=1, description="none: labels only; pfd, cpfd: labels and teacher; posterior: de-noised labels"
    )
    seeds: list[Seed] = Field(
        min_length=1, json_schema_extra=usual(3, 10), description="one student per seed and method"
    )


class Distill(Group):
    """How the teacher's knowledge reaches the student (docs/method.md)."""

    method: Literal["auto", "none", "pfd", "cpfd", "posterior"] = Field(
        description="the method that goes to the gate; auto: chosen from out-of-fold evidence before students train"
    )
    soft_targets: Literal["crossfit", "teacher"] = Field(
        description="logits that pfd and cpfd distil: out-of-fold, or of the teacher trained on those very clips"
    )
    alpha: Share = Field(
        json_schema_extra=usual(0.1, 0.9), description="weight of the soft targets in pfd, and the largest in cpfd"
    )
    tau: float = Field(
        gt=0, le=100, json_schema_extra=usual(1, 10), description="temperature that softens teacher and student alike"
    )
    gamma: float = Field(ge=0, le=10, json_schema_extra=usual(0.5, 3), description="cpfd: exponent of the confidence")
    confidence: Literal["max_prob", "margin", "neg_entropy", "true_class", "correctness"] = Field(
        description="cpfd: estimator of the teacher's confidence"
    )
    balance: Share = Field(
        description="a labelled clip's weight is the inverse share of its class to this power (under posterior, of the"
        " classes that it may have): 0: all clips alike, 1: all classes alike"
    )
    min_eta: float = Field(
        ge=0,
        le=0.95,
        json_schema_extra=usual(0.05, 0.4),
        description="posterior: a label-noise rate estimated below this, or not shown to be above zero, counts as none",
    )
    min_gain: float = Field(
        ge=-1,
        le=1,
        json_schema_extra=usual(0, 0.1),
        description="auto: least out-of-fold accuracy of the teacher above an equally cross-fitted student",
    )


class Evaluation(Group):
    """How results are compared."""

    seed: Seed = Field(description="seed of the bootstrap")
    bootstrap_samples: int = Field(
        ge=100, le=1_000_000, json_schema_extra=usual(1000, 20000), description="resamples of test clips and seeds"
    )
    interval: float = Field(gt=0, lt=1, json_schema_extra=usual(0.9, 0.99), description="coverage of the intervals")
    calibration_bins: int = Field(
        ge=2, le=100, json_schema_extra=usual(5, 20), description="bins of the calibration error and reliability plots"
    )


class Gate(Group):
    """What a student must show on the test split to be passed on."""

    min_macro_f1: Share = Field(json_schema_extra=usual(0.3, 0.95), description="least macro-F1")
    min_not_worse_probability: Share = Field(
        json_schema_extra=usual(0.5, 0.99),
        description="least bootstrap probability that the method's macro-F1 is not below the student's alone",
    )
    min_gap_closed: float = Field(
        json_schema_extra=usual(0, 1),
        description="least share of the teacher-student gap that is closed; not asked where no such gap is shown",
    )
    max_class_f1_drop: Share = Field(
        json_schema_extra=usual(0.02, 0.25), description="largest loss of F1 in any class against the student alone"
    )
    max_calibration_error: Share = Field(
        json_schema_extra=usual(0.02, 0.25), description="largest expected calibration error"
    )
    max_latency_ms: float = Field(
        gt=0,
        json_schema_extra=usual(10, 2000),
        description="largest median time per clip on the machine that promotes, milliseconds",
    )
    max_logit_difference: float = Field(
        gt=0,
        json_schema_extra=usual(1e-4, 0.2),
        description="largest difference between logits from a test clip's file and those of the evaluation",
    )
    trial_clips: int = Field(
        ge=1,
        le=10_000,
        json_schema_extra=usual(8, 200),
        description="test clips that the assembled student is tried on",
    )


class Champion(Group):
    """The registered student that a new one must hold its own against (docs/promotion.md)."""

    version: str | None = Field(
        pattern=r"^v\d+\.\d+\.\d+$", description="the version in production, as `cpfd models` lists it; null: none yet"
    )
    min_slice_clips: int = Field(
        ge=1,
        le=100_000,
        json_schema_extra=usual(10, 200),
        description="fewest test clips of a class or slice that is compared",
    )
    min_not_worse_probability: Share = Field(
        json_schema_extra=usual(0.1, 0.95),
        description="least bootstrap probability that macro-F1 is not below the champion's",
    )
    max_class_f1_drop: Share = Field(
        json_schema_extra=usual(0.02, 0.3), description="largest loss of F1 in any class against the champion"
    )
    max_slice_f1_drop: Share = Field(
        json_schema_extra=usual(0.02, 0.3),
        description="largest loss of macro-F1 against the champion in any slice by creator size, length or text",
    )
    max_calibration_rise: Share = Field(
        json_schema_extra=usual(0.01, 0.1), description="largest rise of the expected calibration error"
    )
    max_latency_ratio: float = Field(
        gt=0,
        json_schema_extra=usual(1, 2),
        description="largest median time per clip, as a multiple of the champion's on the machine that promotes",
    )
    max_size_ratio: float = Field(
        gt=0, json_schema_extra=usual(1, 2), description="largest number of bytes, as a multiple of the champion's"
    )


Minutes = Annotated[float, Field(gt=0)]


class Flows(Group):
    """Runs under Prefect (docs/flows.md); no stage depends on these."""

    timeout_minutes: Minutes = Field(
        json_schema_extra=usual(10, 1440), description="time after which a stage is stopped and fails, minutes"
    )
    stage_timeout_minutes: dict[str, Minutes] = Field(
        description="other limits, by stage or by family of stages: {extract: 720, student: 60}"
    )
    approval_hours: Annotated[float, Field(gt=0)] = Field(
        json_schema_extra=usual(1, 168), description="time that a student waits for somebody's approval, hours"
    )


class Params(Group):
    """All of params.yaml."""

    dataset: Dataset
    demo: Demo
    split: Split
    validation: Validation
    video: Video
    text: Text
    dense: Dense
    backbone: Backbone
    extract: Extract
    model: Model
    train: Train
    teacher: Teacher
    crossfit: Crossfit
    students: Students
    distill: Distill
    evaluation: Evaluation
    gate: Gate
    champion: Champion
    flows: Flows
