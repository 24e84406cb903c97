"""Runs of the flow `train` in this process, and what the server knows of them."""

from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import State, TaskRun

from flows.train import train
from tests.support.project import wait_for


def run(**parameters: Any) -> State[Any]:
    """Run the flow in this process and return how it ended."""
    return train(**parameters, return_state=True)


def flow_run_id(state: State[Any]) -> UUID:
    found = state.state_details.flow_run_id
    assert found is not None
    return found


def task_runs(state: State[Any]) -> dict[str, TaskRun]:
    """The task runs of a flow run by name, once the server has noted how all have ended."""
    own = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id(state)]))

    def ended() -> list[TaskRun] | None:
        with get_client(sync_client=True) as client:
            found = client.read_task_runs(flow_run_filter=own)
        return found if all(each.state and each.state.is_final() for each in found) else None

    return {each.name: each for each in wait_for(ended)}


def logs(state: State[Any]) -> str:
    """All that a flow run has logged, once the server has its last line."""
    own = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id(state)]))

    def complete() -> str | None:
        with get_client(sync_client=True) as client:
            found, offset = [], 0
            while page := client._client.post(
                "/logs/filter", json={"logs": own.model_dump(mode="json"), "offset": offset, "sort": "TIMESTAMP_ASC"}
            ).json():
                found += page
                offset += len(page)
        # Each task run ends with such a line too.
        ended = any(not each["task_run_id"] and each["message"].startswith("Finished in state") for each in found)
        return "\n".join(each["message"] for each in found) if ended else None

    return str(wait_for(complete))
