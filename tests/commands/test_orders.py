"""What commands ask of ECS, how their definitions are found, how their logs are read: tables, no service."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec import Command
from cloudexec.backends.ecs.commands.definitions import Definitions, with_roles
from cloudexec.backends.ecs.commands.logs import read_log
from cloudexec.backends.ecs.commands.orders import base_of, definition_request, order_of, start_request
from cloudexec.backends.ecs.requests import MOST_OVERRIDES, Launch, Outfit
from cloudexec.backends.ecs.target import Capacity, EcsTarget, ProviderShare
from cloudexec.command import MOST_LOG_BYTES
from cloudexec.errors import AccessDenied, AwsError, SettingsError, Throttled
from tests.backends.ecs.models import complaints

TARGET = EcsTarget(
    cluster="c",
    task_definition="worker:3",
    container="worker",
    subnets=("subnet-1",),
    region="eu-west-1",
    tags={"team": "a"},
)
OUTFIT = Outfit(run_id="r20261121-052301-9f3a1c", name="nightly")
LAUNCH = Launch(number=1, token="t1", count=1, capacity=Capacity.ON_DEMAND)


def ordered(command, target=TARGET, env=None, name=""):
    return order_of(command, base_of(target), OUTFIT, env, name)


# --- requests --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "container"),
    [
        pytest.param(
            Command(["python", "s.py", "a,b"], task_definition="td:1", container="main"),
            {"name": "main", "command": ["python", "s.py", "a,b"]},
            id="words",
        ),
        pytest.param(
            Command(env={"A": "1"}, task_definition="td:1", container="main"),
            {"name": "main", "environment": [{"name": "A", "value": "1"}]},
            id="environment only: the container's own command runs",
        ),
        pytest.param(
            Command(task_definition="td:1", container="main", vcpu=1, memory_mib=2048), {"name": "main"}, id="size"
        ),
    ],
)
def test_a_command_becomes_one_task_with_overrides(command, container):
    request = start_request(ordered(command), LAUNCH, "arn:td:1")
    assert complaints("ecs", "run_task", request) == ""
    assert request["overrides"]["containerOverrides"] == [container]
    assert (request["count"], request["taskDefinition"]) == (1, "arn:td:1")
    assert ("cpu" in request["overrides"]) is bool(command.vcpu)
    assert {"key": "cloudexec:run", "value": OUTFIT.run_id} in request["tags"]
    assert {"key": "team", "value": "a"} in request["tags"]


def test_commands_are_not_started_by_whom_the_fleet_takes_for_its_own():
    request = start_request(ordered(Command(["a"], task_definition="td")), LAUNCH, "td")
    assert request["startedBy"] == f"{OUTFIT.run_id}/commands"


def test_nothing_of_the_workers_definition_or_size_goes_into_a_command():
    target = EcsTarget(cluster="c", image="ours", vcpu=4, memory_mib=8192, subnets=("s",), ephemeral_gib=50)
    request = start_request(ordered(Command(["a"], task_definition="td"), target), LAUNCH, "td")
    assert request["overrides"] == {"containerOverrides": [{"name": "worker", "command": ["a"]}]}


def test_capacity_is_the_executors():
    strategy = (ProviderShare(provider="mine"),)
    target = EcsTarget(cluster="c", task_definition="w", capacity_provider_strategy=strategy)
    order = ordered(Command(["a"], task_definition="td", vcpu=1), target)
    launch = Launch(number=1, token="t", count=1, capacity=order.target.capacity)
    request = start_request(order, launch, "td")
    assert request["capacityProviderStrategy"][0]["capacityProvider"] == "mine"
    assert complaints("ecs", "run_task", request) == ""


@pytest.mark.parametrize(
    ("role", "log_group", "logs"),
    [
        pytest.param("arn:aws:iam::1:role/e", "/ecs/x", True, id="with an execution role"),
        pytest.param("", "/ecs/x", False, id="without one a task may not write to a log"),
        pytest.param("arn:aws:iam::1:role/e", "", False, id="no log group"),
    ],
)
def test_the_definition_for_an_image_keeps_its_command(role, log_group, logs):
    target = EcsTarget(cluster="c", image="ours", subnets=("s",), execution_role=role, log_group=log_group, region="r")
    request = definition_request(ordered(Command(image="model:1"), target).target)
    assert complaints("ecs", "register_task_definition", request) == ""
    (container,) = request["containerDefinitions"]
    assert (container["name"], container["image"]) == ("command", "model:1")
    assert "command" not in container
    assert ("logConfiguration" in container) is logs
    assert request["family"].startswith("cloudexec-command-")


text = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=4000)


@given(words=st.lists(text, max_size=4), value=text)
def test_overrides_are_either_short_enough_or_refused(words, value):
    command = Command(words, env={"MODEL_CONFIG": value}, task_definition="td", container="main")
    try:
        request = start_request(ordered(command), LAUNCH, "td")
    except SettingsError as refusal:
        longest = refusal.what
        container = {"command": words, "environment": [{"name": "MODEL_CONFIG", "value": value}]}
        assert len(json.dumps(container)) > MOST_OVERRIDES - 100
        assert "env MODEL_CONFIG (" in longest
        assert "the command (" in longest
    else:
        assert len(json.dumps(request["overrides"])) <= MOST_OVERRIDES


def test_environment_and_name_of_the_call():
    order = ordered(Command(env={"B": "command"}, task_definition="td"), env={"A": "call", "B": "call"}, name="mine")
    assert order.outfit.environment == {"A": "call", "B": "command"}
    assert order.outfit.name == "mine"
    assert ordered(Command(task_definition="td")).outfit.name == "nightly"


# --- definitions -----------------------------------------------------------------------------


class Service:
    """Answers from a table; an error is raised, a list is used up."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    def __call__(self, service, operation, request):
        self.asked.append((operation, dict(request)))
        answer = self.answers[operation]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return answer


def definition(*names, **more):
    logs = {"logDriver": "awslogs", "options": {"awslogs-group": "/g", "awslogs-stream-prefix": "p"}}
    containers = [{"name": name, "logConfiguration": logs} for name in names]
    return {"taskDefinition": {"taskDefinitionArn": "arn:td:7", "containerDefinitions": containers, **more}}


def test_a_definition_is_looked_up_once_for_each_container():
    ask = Service(describe_task_definition=definition("main", "side"))
    definitions = Definitions(ask)
    for container in ("", "", "side", "side"):
        order, arn = definitions.complete(ordered(Command(["a"], task_definition="td", container=container)))
        assert (order.target.container, arn) == (container or "main", "arn:td:7")
        assert (order.target.log_group, order.target.log_prefix) == ("/g", "p")
    assert len(ask.asked) == 2


def test_a_look_that_failed_is_repeated_the_next_time():
    ask = Service(describe_task_definition=[Throttled("slow down"), definition("main")])
    definitions, order = Definitions(ask), ordered(Command(["a"], task_definition="td"))
    with pytest.raises(Throttled):
        definitions.complete(order)
    assert definitions.complete(order)[1] == "arn:td:7"


def test_an_unknown_container_is_refused_by_name():
    definitions = Definitions(Service(describe_task_definition=definition("main", "side")))
    with pytest.raises(SettingsError, match=r"no container 'x'; it has main, side"):
        definitions.complete(ordered(Command(["a"], task_definition="td", container="x")))


@pytest.mark.parametrize(
    ("answer", "role", "log_group"),
    [
        pytest.param(definition("worker", executionRoleArn="arn:e"), "arn:e", "/g", id="the workers' role and log"),
        pytest.param(AwsError("gone", "ClientException"), "", "", id="there is no such definition"),
        pytest.param(AccessDenied("no", "AccessDeniedException"), "", "", id="no right to look"),
    ],
)
def test_images_get_the_roles_of_the_workers_definition(answer, role, log_group):
    target = with_roles(TARGET, Service(describe_task_definition=answer))
    assert (target.execution_role, target.log_group, target.task_definition) == (role, log_group, "")


def test_trouble_on_the_way_to_the_roles_is_told():
    with pytest.raises(Throttled):
        with_roles(TARGET, Service(describe_task_definition=Throttled("slow down")))


# --- logs ------------------------------------------------------------------------------------

LOGGED = EcsTarget(cluster="c", task_definition="td", container="main", log_group="/g", log_prefix="p")


def log_of(lines, page=3):
    """GetLogEvents on a log of these lines, in pages from the end, with an empty page between, as CloudWatch does."""

    def answer(request):
        token = request.get("nextToken", "")
        end = int(token.split("/")[1]) if token else len(lines)
        if token.startswith("empty"):
            return {"events": [], "nextBackwardToken": f"full/{end}"}
        begin = max(0, end - min(page, request["limit"]))
        events = [{"message": line} for line in lines[begin:end]]
        if begin == end:
            return {"events": [], "nextBackwardToken": token}
        return {"events": events, "nextBackwardToken": f"empty/{begin}"}

    return answer


def read(answer, n_lines=None, target=LOGGED, pauses=None):
    ask = Service(get_log_events=answer)
    told = read_log(ask, target, "arn:aws:ecs:r:1:task/c/abc", n_lines, [].append if pauses is None else pauses.append)
    return SimpleNamespace(text=told, asked=ask.asked)


@given(n_there=st.integers(0, 30), n_lines=st.one_of(st.none(), st.integers(0, 40)), page=st.integers(1, 9))
def test_the_last_lines_are_read_whatever_the_pages(n_there, n_lines, page):
    lines = [f"line {number}" for number in range(n_there)]
    kept = lines if n_lines is None else lines[max(0, n_there - n_lines) :]
    assert read(log_of(lines, page), n_lines).text == "".join(f"{line}\n" for line in kept)


def test_no_more_pages_are_asked_for_than_are_needed():
    lines = ["x" * 1000] * 5000
    told = read(log_of(lines, 500))
    assert MOST_LOG_BYTES - 1001 <= len(told.text) <= MOST_LOG_BYTES
    assert len(told.asked) <= 5
    assert len(read(log_of(lines, 500), 30).asked) == 1


def test_the_stream_is_named_after_prefix_container_and_task():
    (operation, request) = read(log_of(["a"])).asked[0]
    assert request["logStreamName"] == "p/main/abc"
    assert complaints("logs", operation, request) == ""


@pytest.mark.parametrize(
    ("answer", "target", "says"),
    [
        pytest.param(
            AwsError("no such log group", "ResourceNotFoundException"), LOGGED, "no such log group", id="no log group"
        ),
        pytest.param(AccessDenied("not allowed", "AccessDenied"), LOGGED, "not allowed", id="no right to read it"),
        pytest.param({}, TARGET, "does not send one", id="no log in the definition"),
    ],
)
def test_a_log_that_cannot_be_read_says_why(answer, target, says):
    assert says in read(answer, target=target).text


def test_throttles_are_waited_for():
    pauses = []
    throttled = Throttled("Rate exceeded", "ThrottlingException")
    answers = [throttled, throttled, {"events": [{"message": "a"}], "nextBackwardToken": None}]
    assert read(answers, pauses=pauses).text == "a\n"
    assert pauses == sorted(pauses)
    assert len(pauses) == 2
    assert "Rate exceeded" in read(throttled).text
