"""Values that would not work are refused, and the message says what to do."""

from __future__ import annotations

import pytest

from chart.release import Refused, render

# example, what is set, what the message says
CASES = {
    "unknown key": ("cpu", ["stages.target.lookahed=3"], ["lookahed", "not allowed"]),
    "unknown key of emulation": (
        "emulated",
        ["stages.draft.emulation.latency=3"],
        ["latency", "not allowed"],
    ),
    "unknown key at the top": ("cpu", ["gatway.replicas=3"], ["gatway", "not allowed"]),
    "value out of range": ("cpu", ["stages.target.tensorParallel=0"], ["/stages/target/tensorParallel"]),
    "bad port": ("cpu", ["gateway.httpPort=99999"], ["/gateway/httpPort", "65,535"]),
    "port 0": ("cpu", ["metrics.port=0"], ["/metrics/port"]),
    "one port twice": (
        "cpu",
        ["gateway.grpcPort=8000"],
        ["gateway.grpcPort and gateway.httpPort are both 8000", "Give each"],
    ),
    "metrics on a client port": ("cpu", ["metrics.port=8002"], ["are both 8002", "Give each"]),
    "no keys of the bus": (
        "cpu",
        ["bus.insecure=false"],
        ["bus needs keys", "pipespec keys new FOLDER", "bus.serverSecret", "bus.insecure"],
    ),
    "half of the keys of the bus": (
        "cpu",
        ["bus.insecure=false", "bus.serverSecret=x"],
        ["bus needs keys", "bus.clientSecret"],
    ),
    "keys and an open bus": ("locked-down", ["bus.insecure=true"], ["bus.insecure is true", "Remove one"]),
    "no keys of the ZeroMQ edge": (
        "cpu",
        ["gateway.zmqInsecure=false"],
        ["ZeroMQ clients need keys", "gateway.zmqKeysSecret"],
    ),
    "keys and an open ZeroMQ edge": (
        "locked-down",
        ["gateway.zmqInsecure=true"],
        ["gateway.zmqInsecure is true", "Remove one"],
    ),
    "a test's key for an open edge": ("cpu", ["tests.zmqKeysSecret=x"], ["ask for no key", "Remove it"]),
    "no stages": ("", ["nameOverride=x"], ["stages is empty", "examples/"]),
    "two stages with one index": (
        "cpu",
        ["stages.target.index=0"],
        ["both have index 0", "0 for the smallest"],
    ),
    "a gap in the indexes": ("cpu", ["stages.target.index=2"], ["no stage has index 1", "without gaps"]),
    "a stage without index": ("cpu", ["stages.more.kind=suffix"], ["/stages/more", "index"]),
    "a name that is none": ("cpu", ["stages.Target.index=2"], ["stages.Target", "a-z, 0-9 and dashes"]),
    "a name that is taken": (
        "cpu",
        ["stages.broker.index=2"],
        ["stages.broker", "Call the stage something else"],
    ),
    "scaler and replicas": (
        "autoscaled",
        ["stages.target.replicas=3"],
        ["every upgrade would undo", "Remove replicas"],
    ),
    "gateways' scaler and replicas": (
        "autoscaled",
        ["gateway.replicas=3"],
        ["gateway.replicas is 3", "Remove replicas"],
    ),
    "keda beside pipespec": (
        "autoscaled",
        ["stages.target.autoscaling.keda.triggers[0].type=cpu"],
        ["two scalers", "Set type to keda"],
    ),
    "keda beside hpa": ("keda", ["stages.draft.autoscaling.keda.triggers[0].type=cpu"], ["two scalers"]),
    "hpa beside keda": (
        "keda",
        ["stages.target.autoscaling.hpa.metrics[0].type=Resource"],
        ["two scalers", "Set type to hpa"],
    ),
    "an hpa that looks at nothing": (
        "keda",
        ["stages.draft.autoscaling.hpa.targetCPUUtilization=null"],
        ["nothing says what to look at", "Set "],
    ),
    "an hpa down to 0": (
        "keda",
        ["stages.draft.autoscaling.minReplicas=0"],
        ["an HPA cannot do", "type keda or pipespec"],
    ),
    "keda without triggers": (
        "cpu",
        ["stages.target.autoscaling.type=keda"],
        ["keda.triggers is empty", "Add a trigger"],
    ),
    "an empty range": (
        "autoscaled",
        ["stages.draft.autoscaling.minReplicas=9"],
        ["above maxReplicas, 8", "Raise maxReplicas"],
    ),
    "a target down to 0": (
        "autoscaled",
        ["stages.target.autoscaling.minReplicas=0"],
        ["nothing is served", "1 or more"],
    ),
    "gateways that are open without saying so": (
        "cpu",
        ["gateway.insecure=false"],
        ["whoever reaches the gateways", "pipespec api-keys new", "gateway.insecure to true"],
    ),
    "keys and none": (
        "locked-down",
        ["gateway.insecure=true"],
        ["is pipespec-api-keys, and gateway.insecure is true", "Remove one"],
    ),
    "tests without a key": (
        "locked-down",
        ["tests.apiKey.existingSecret="],
        ["pods of `helm test` have none", "tests.enabled to false"],
    ),
    "a key of a Secret that is no file name": (
        "locked-down",
        ["gateway.auth.secretKey=../x"],
        ["/gateway/auth/secretKey"],
    ),
    "no target": ("cpu", ["stages.target.replicas=0"], ["nothing is served", "1 or more"]),
    "autoscaler without a profile": (
        "cpu",
        ["stages.target.autoscaling.type=pipespec"],
        ["pipespec profile", "--set-file"],
    ),
    "grace of a stage too short": (
        "cpu",
        ["stages.target.terminationGracePeriodSeconds=39"],
        ["stages.target", "less than the 40 s", "Remove it"],
    ),
    "grace of the gateways too short": (
        "cpu",
        ["gateway.terminationGracePeriodSeconds=74"],
        ["less than the 75 s", "make the drain shorter"],
    ),
    "RWO with two gateways": (
        "single-gpu",
        ["gateway.replicas=2"],
        ["gateway has up to 2 pods", "ReadWriteMany"],
    ),
    "RWO with two targets": (
        "single-gpu",
        ["stages.target.replicas=2"],
        ["stages.target has up to 2 pods", "ReadWriteMany"],
    ),
    "RWO with a scaled target": (
        "single-gpu",
        [
            "stages.target.autoscaling.type=hpa",
            "stages.target.autoscaling.maxReplicas=3",
            "stages.target.autoscaling.hpa.targetCPUUtilization=50",
        ],
        ["stages.target has up to 3 pods"],
    ),
    "RWO for one pod": (
        "single-gpu",
        ["modelCache.accessModes={ReadWriteOncePod}"],
        ["read the same claim", "Use ReadWriteMany"],
    ),
    "download into what cannot be written": (
        "llama-1b-8b-70b",
        ["modelCache.accessModes={ReadOnlyMany}"],
        ["nothing can be downloaded", "Fill it beforehand"],
    ),
    "claim without a name": (
        "single-gpu",
        ["modelCache.type=claim"],
        ["existingClaim is empty", "Name your"],
    ),
    "a name without claim": ("single-gpu", ["modelCache.existingClaim=x"], ["Set type to claim"]),
    "tag latest": ("cpu", ["image.tag=latest"], ["image.tag is latest", "Name a version"]),
    "tag latest of one stage": (
        "cpu",
        ["stages.target.image.tag=latest"],
        ["stages.target.image.tag is latest"],
    ),
    "a digest that is none": ("cpu", ["image.digest=sha256:12"], ["/image/digest"]),
    "fewer GPUs than parts": (
        "llama-1b-8b-70b",
        ["stages.target.accelerator.count=1"],
        ["tensorParallel is 2", "accelerator.count to 2"],
    ),
    "budget with both limits": (
        "cpu",
        ["broker.podDisruptionBudget.minAvailable=1"],
        ["one of them", "to null"],
    ),
    "budget with no limit": (
        "cpu",
        ["broker.podDisruptionBudget.maxUnavailable=null"],
        ["neither", "Set one of them"],
    ),
    "five brokers": ("cpu", ["broker.replicas=5"], ["/broker/replicas"]),
    "a model that is missing": (
        "cpu",
        ["stages.target.model=null"],
        ["stages.target has no model", "Set stages.target.model"],
    ),
    "a model that is too much": ("cpu", ["stages.suffix.model=a/b"], ["runs no model", "Remove"]),
    "suffix at the end": (
        "cpu",
        ["stages.target.kind=suffix,stages.target.model=null"],
        ["checks nothing", "index 0"],
    ),
    "emulated among real ones": (
        "cpu",
        ["stages.suffix.kind=emulated,stages.suffix.emulation.latencyMs.1=5"],
        ["mean nothing", "or none"],
    ),
    "emulated without a speed": ("emulated", ["stages.draft.emulation=null"], ["says nothing of its speed"]),
    "two profiles": (
        "autoscaled",
        ["autoscaler.profile=x", "autoscaler.existingProfile.configMap=y"],
        ["both set", "Remove one"],
    ),
    "a token in plain": ("cpu", ["modelCache.download.token=hf_x"], ["token", "not allowed"]),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_values_are_refused_with_advice(case: str) -> None:
    example, sets, words = CASES[case]
    with pytest.raises(Refused) as refused:
        render(example, *sets)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("case", ["unknown key", "bad port", "two stages with one index", "keda beside hpa"])
def test_helm_3_refuses_them_too(case: str) -> None:
    example, sets, _ = CASES[case]
    with pytest.raises(Refused):
        render(example, *sets, major=3)


def test_an_old_cluster_is_refused() -> None:
    with pytest.raises(Refused, match=r"1\.28"):
        render("cpu", kube_version="1.28.0")


def test_umbrella_charts_may_say_global_and_enabled() -> None:
    release = render("cpu", "enabled=true", "global.imageRegistry=registry.example.com", "global.other=1")
    images = {pod["spec"]["containers"][0]["image"] for _, pod in release.pods()}
    assert all(image.startswith("registry.example.com/") for image in images)
