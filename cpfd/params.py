"""The schema of params.yaml: the only definition of every knob's type, range and meaning."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cpfd.errors import CpfdError

PARAMS_FILE = Path("params.yaml")
PIPELINE_FILE = Path("dvc.yaml")

Method = Literal["none", "pfd", "cpfd", "posterior"]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


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
    clips: int = Field(ge=24, le=100_000, description="clips, the unlabelled ones included")
    creators: int = Field(ge=12, le=10_000, description="creators that share the clips unevenly")
    creator_skew: float = Field(
        ge=0, le=2, description="exponent of the power law by which clips fall with the creator's rank; 0: all alike"
    )
    topic_ratio: float = Field(ge=1, le=20, description="creators of the most popular topic for one of the least")
    validation_share: float = Field(gt=0, lt=0.5, description="share of creators, and of clips, for validation")
    test_share: float = Field(gt=0, lt=0.5, description="share of creators, and of clips, for the test")
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
    validation_share: float = Field(gt=0, lt=0.5, description="share of labelled clips for validation")
    test_share: float = Field(gt=0, lt=0.5, description="share of labelled clips for the test")


class Validation(Group):
    """What the data must look like before anything is trained on it."""

    max_quarantine_share: Share = Field(description="largest share of clips that may be quarantined")
    min_seconds: float = Field(ge=0, description="shortest clip, seconds (a still image is exempt)")
    max_seconds: float = Field(gt=0, description="longest clip, seconds")
    min_side: int = Field(ge=1, description="smallest width or height, pixels")
    max_side: int = Field(ge=1, description="largest width or height, pixels")
    min_frames: int = Field(ge=1, description="fewest frames in a clip")
    min_class_clips: int = Field(ge=1, description="fewest labelled clips of a class in the whole data set")
    max_class_ratio: float = Field(ge=1, description="largest ratio of the most to the least frequent class")
    max_missing_text_share: Share = Field(description="largest share of clips without any text")
    max_missing_dense_share: Share = Field(description="largest share of missing values in a dense column")
    max_drift: float = Field(
        ge=0, le=1, description="largest Kolmogorov-Smirnov distance of a dense column to the training split"
    )


class Video(Group):
    """What the student sees of a clip."""

    frames: int = Field(ge=1, le=256, description="frames sampled uniformly in time from each clip")
    size: int = Field(ge=32, le=1024, description="height and width that a frame is resized to, pixels")
    grid: int = Field(ge=1, le=16, description="a frame becomes grid x grid visual tokens")


class Text(Group):
    """What the student reads of a clip."""

    columns: list[Literal["title", "caption", "overlay_text", "transcript"]] = Field(
        min_length=1, description="manifest columns joined in this order; those that a data set lacks are passed over"
    )
    max_tokens: int = Field(ge=4, le=512, description="tokens kept of a clip's text, special tokens included")


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
        min_length=1, description="efficientnet-lite0, or the name or folder of a transformers vision AutoModel"
    )
    vision_revision: str | None = Field(description="commit of the vision model on its hub; required for a hub name")
    text: str = Field(
        min_length=1, description="all-minilm-l6-v2, or the name or folder of a transformers text AutoModel"
    )
    text_revision: str | None = Field(description="commit of the text model on its hub; required for a hub name")


class Extract(Group):
    """How clips are decoded and encoded."""

    threads: int = Field(ge=1, le=256, description="clips decoded and encoded side by side")
    shard_clips: int = Field(ge=1, le=100_000, description="clips in a shard, the unit that a killed run resumes at")


class Model(Group):
    """The size of the student (X-VLM) and, with dense tokens, of the teacher (DF-X-VLM)."""

    hidden_size: int = Field(ge=8, le=4096, description="width of the fusion layers")
    fusion_layers: int = Field(ge=1, le=48, description="layers in which text attends to visual tokens")
    attention_heads: int = Field(ge=1, le=64, description="attention heads; must divide hidden_size")
    dense_tokens: int = Field(ge=1, le=64, description="tokens that the teacher's dense features become")
    dropout: float = Field(ge=0, lt=1, description="dropout probability")


class Train(Group):
    """The training budget, the same for teacher and every student."""

    threads: int = Field(ge=1, le=256, description="CPU threads of a training run; part of what fixes the bits")
    epochs: int = Field(ge=1, le=10_000, description="most passes over the training split")
    batch_size: int = Field(ge=1, le=65_536, description="clips in a step")
    learning_rate: float = Field(gt=0, le=1, description="peak learning rate of AdamW")
    weight_decay: float = Field(ge=0, le=10, description="decoupled weight decay of AdamW")
    warmup_share: Share = Field(description="share of the steps in which the learning rate rises linearly")
    patience: int = Field(ge=1, description="epochs without a better validation macro-F1 before training stops")
    label_smoothing: float = Field(ge=0, lt=1, description="probability mass spread over all classes")
    class_weighting: Literal["none", "balanced"] = Field(
        description="balanced: the label loss of a clip is weighted by the inverse frequency of its class"
    )


class Teacher(Group):
    """The teacher trained on the whole training split."""

    seed: Seed = Field(description="seed of the teacher's training")


class Crossfit(Group):
    """Cross-fitting: every training clip is judged by networks that have not seen its label."""

    folds: int = Field(ge=2, le=20, description="folds of the training split")
    seed: Seed = Field(description="seed of the folds and of their networks")


class Students(Group):
    """Which students are trained: every method with every seed."""

    methods: list[Method] = Field(
        min_length=1, description="none: labels only; pfd, cpfd: labels and teacher; posterior: de-noised labels"
    )
    seeds: list[Seed] = Field(min_length=1, description="one student per seed and method")


class Distill(Group):
    """How the teacher's knowledge reaches the student (docs/method.md)."""

    method: Literal["auto", "none", "pfd", "cpfd", "posterior"] = Field(
        description="the method that goes to the gate; auto: chosen from out-of-fold evidence before students train"
    )
    soft_targets: Literal["crossfit", "teacher"] = Field(
        description="logits that pfd and cpfd distil: out-of-fold, or of the teacher trained on those very clips"
    )
    alpha: Share = Field(description="weight of the soft targets in pfd, and the largest in cpfd")
    tau: float = Field(gt=0, le=100, description="temperature that softens teacher and student alike")
    gamma: float = Field(ge=0, le=10, description="cpfd: exponent of the confidence")
    confidence: Literal["max_prob", "margin", "neg_entropy", "true_class", "correctness"] = Field(
        description="cpfd: estimator of the teacher's confidence"
    )
    min_eta: float = Field(ge=0, le=0.95, description="posterior: a smaller estimated label-noise rate counts as none")
    min_gain: float = Field(
        ge=-1, le=1, description="auto: least out-of-fold accuracy of the teacher above an equally cross-fitted student"
    )


class Evaluation(Group):
    """How results are compared."""

    seed: Seed = Field(description="seed of the bootstrap")
    bootstrap_samples: int = Field(ge=100, le=1_000_000, description="resamples of test clips and seeds")
    interval: float = Field(gt=0, lt=1, description="coverage of the intervals")
    calibration_bins: int = Field(ge=2, le=100, description="bins of the calibration error and reliability plots")


class Gate(Group):
    """What a student must show on the test split to be passed on."""

    min_macro_f1: Share = Field(description="least macro-F1")
    min_not_worse_probability: Share = Field(
        description="least bootstrap probability that the method's macro-F1 is not below the student's alone"
    )
    min_gap_closed: float = Field(
        description="least share of the teacher-student gap that is closed; not asked where the teacher is not better"
    )
    max_class_f1_drop: Share = Field(description="largest loss of F1 in any class against the student alone")
    max_calibration_error: Share = Field(description="largest expected calibration error")
    max_latency_ms: float = Field(gt=0, description="largest median time per clip on this machine, milliseconds")
    max_logit_difference: float = Field(
        gt=0, description="largest difference between logits from a test clip's file and those of the evaluation"
    )
    trial_clips: int = Field(ge=1, le=10_000, description="test clips that the assembled student is tried on")


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


def load_params(stage: str | None = None, path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml; for a `stage` of dvc.yaml, keep only the keys that dvc.yaml lists for it.

    Reading any other key then raises AttributeError, so that no stage can depend on a knob that DVC does not watch.

    Raises CpfdError naming every wrong key with its value and what is allowed.
    """
    params = check_params(_read_yaml(path), path)
    if stage is not None:
        listed = stage_keys(stage)
        for group, field in _keys():
            if group not in listed and f"{group}.{field}" not in listed:
                getattr(params, group).__dict__.pop(field)
    return params


def check_params(content: Any, path: Path = PARAMS_FILE) -> Params:
    """Check the parsed content of a params.yaml; raises CpfdError naming key, value and what is allowed."""
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise CpfdError(_explain(error, path)) from None
    problems = []
    if params.model.hidden_size % params.model.attention_heads:
        problems.append(
            f"model.attention_heads: {params.model.attention_heads} must divide model.hidden_size"
            f" {params.model.hidden_size}"
        )
    for group, smaller, larger in [
        ("validation", "min_seconds", "max_seconds"),
        ("validation", "min_side", "max_side"),
    ]:
        low, high = getattr(getattr(params, group), smaller), getattr(getattr(params, group), larger)
        if low > high:
            problems.append(f"{group}.{smaller}: {low} must not be above {group}.{larger} {high}")
    lists: dict[str, list[Any]] = {
        "students.methods": params.students.methods,
        "students.seeds": params.students.seeds,
        "text.columns": params.text.columns,
    }
    for key, values in lists.items():
        if len(set(values)) < len(values):
            problems.append(f"{key}: {values} repeats a value")
    if "none" not in params.students.methods:
        problems.append("students.methods: 'none', the student alone, is what every other method is compared with")
    if params.distill.method != "auto" and params.distill.method not in params.students.methods:
        problems.append(f"distill.method: '{params.distill.method}' is not among students.methods")
    if params.distill.method == "auto" and "posterior" not in params.students.methods:
        problems.append("distill.method: 'auto' may choose 'posterior', which is not among students.methods")
    if problems:
        raise CpfdError("\n".join(f"{path}: {problem}" for problem in problems))
    return params


def stage_keys(stage: str, path: Path = PIPELINE_FILE) -> list[str]:
    """The keys that `stage` lists under `params` in dvc.yaml: `group.field`, or `group` for all of its fields."""
    stages = _read_yaml(path)["stages"]
    if stage not in stages:
        raise CpfdError(f"{path}: no stage '{stage}'; there are: {', '.join(stages)}")
    definition = stages[stage].get("do", stages[stage])
    return [str(key) for key in definition.get("params", [])]


def reference() -> str:
    """Every key of params.yaml as Markdown: type, what is allowed, meaning and unit."""
    lines = ["# Parameters", "", "Every key of `params.yaml`. This page is `cpfd params`; a test keeps it so.", ""]
    for group, info in Params.model_fields.items():
        model = info.annotation
        assert isinstance(model, type)
        assert issubclass(model, Group)
        lines += [f"## {group}", "", model.__doc__ or "", "", "| key | allowed | meaning |", "|---|---|---|"]
        properties = model.model_json_schema()["properties"]
        lines += [
            f"| `{group}.{name}` | {_allowed(schema)} | {schema['description'].replace('|', chr(92) + '|')} |"
            for name, schema in properties.items()
        ]
        lines.append("")
    return "\n".join(lines)


def _keys() -> Iterator[tuple[str, str]]:
    for group, info in Params.model_fields.items():
        for field in info.annotation.model_fields:  # type: ignore[union-attr]
            yield group, field


def _read_yaml(path: Path) -> Any:
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CpfdError(f"{path}: no such file; run this in the root of a CPFD project") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise CpfdError(f"{path}: not valid YAML: {error}") from None


def _explain(error: ValidationError, path: Path) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "(file)"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{path}: {key}: unknown key; `cpfd params` lists those that exist")
        elif problem["type"] == "missing":
            lines.append(f"{path}: {key}: missing; allowed: {_allowed_at(problem['loc'])}")
        else:
            lines.append(
                f"{path}: {key}: {problem['input']!r}: {problem['msg']}; allowed: {_allowed_at(problem['loc'])}"
            )
    return "\n".join(lines)


def _allowed_at(loc: tuple[int | str, ...]) -> str:
    info = Params.model_fields.get(str(loc[0])) if loc else None
    if info is None or len(loc) < 2:
        return "a group of keys, as `cpfd params` lists them"
    return _allowed(info.annotation.model_json_schema()["properties"][loc[1]])  # type: ignore[union-attr]


def _allowed(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_allowed(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    if schema["type"] == "array":
        return f"list of: {_allowed(schema['items'])}"
    bounds = [
        f"{sign} {schema[name]:g}"
        for name, sign in [("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<")]
        if name in schema
    ]
    return " ".join([str(schema["type"]), " and ".join(bounds)]).strip()
