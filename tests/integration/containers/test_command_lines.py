"""What docker's users type, and what docker does then: found by running both, side by side."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.runner import Pybuild

RUNNING = "sleep 1000"


@pytest.fixture
def two(pybuild: Pybuild) -> Iterator[Pybuild]:
    """``one`` runs, with labels and a volume; ``three`` ended by itself."""
    pybuild(
        "run",
        "-d",
        "--name",
        "one",
        "-l",
        "a=1",
        "-l",
        "x.y-z=b c",
        "-v",
        "data:/data",
        "busybox",
        *RUNNING.split(),
    )
    pybuild("run", "--name", "three", "busybox", "sh", "-c", "exit 3", status=3)
    yield pybuild
    pybuild("rm", "-f", "one", "three")
    pybuild("volume", "rm", "data")


def test_image_prune_leaves_containers_alone(two: Pybuild) -> None:
    assert two("image", "prune", "-f").stdout == "Total reclaimed space: 0B\n"
    assert two("ps", "-a", "--format", "{{.Names}}").stdout.split() == ["three", "one"]
    none = ("--filter", "label=none")
    assert two("image", "prune", "-af", *none).stdout == "Total reclaimed space: 0B\n"
    assert two("image", "prune", "-a", *none, input="y\n").stdout == "Total reclaimed space: 0B\n"
    assert "busybox" in two("images", "--format", "{{.Repository}}").stdout


LISTS = {
    "-f name=one": "one",
    "-f name=^/one$": "one",
    "-f name=^on$": "",
    "-f name=t[gh]r|one": "three one",
    "-f status=exited": "three",
    "-f exited=3": "three",
    "-f exited=4": "",
    "-f label=a": "one",
    "-f label=a=2": "",
    "-f health=none": "three one",
    "-f volume=data": "one",
    "-f volume=/data": "one",
    "-f before=three": "one",
    "-f since=one": "three",
    "-f ancestor=busybox:latest": "three one",
    "-f publish=80": "",
    "-f expose=80/tcp": "",
    "-n 1": "three",
}


def test_an_image_that_was_built_on_another_one_descends_from_it(pybuild: Pybuild) -> None:
    for tag, text in (("child", "FROM busybox\nEXPOSE 80\n"), ("other", "FROM busybox\nENV A=1\n")):
        pybuild("build", "-q", "-t", tag, pybuild.context({"Dockerfile": text}))
    for image in ("child", "busybox"):
        pybuild("run", "-d", "--name", f"of-{image}", image, *RUNNING.split())

    def descending(image: str) -> list[str]:
        return pybuild("ps", "--format", "{{.Names}}", "-f", f"ancestor={image}").stdout.split()

    assert descending("busybox") == ["of-busybox", "of-child"]
    assert (descending("child"), descending("other")) == (["of-child"], [])
    assert pybuild("ps", "--format", "{{.Ports}}", "-f", "name=of-child").stdout == "80/tcp\n"
    pybuild("rm", "-f", "of-child", "of-busybox")


def test_filters_of_ps(two: Pybuild) -> None:
    found = {
        options: " ".join(two("ps", "-a", *options.split(), "--format", "{{.Names}}").stdout.split())
        for options in LISTS
    }
    assert found == LISTS
    # Only `status` shows what doesn't run without -a.
    assert two("ps", "-q", "-f", "exited=3").stdout == ""
    for wrong in ("status=gone", "health=sick", "exited=x", "name=[", "publish=x", "nothing=1", "name"):
        assert "--filter" in two("ps", "-f", wrong, status=2).stderr
    assert "'x' is not a whole number" in two("ps", "-n", "x", status=2).stderr


def test_formats_of_ps(two: Pybuild) -> None:
    def ps(form: str) -> list[str]:
        return two("ps", "-a", "--no-trunc", "--format", form).stdout.splitlines()

    assert ps('{{.Names}} {{.Label "x.y-z"}}') == ["three ", "one b c"]
    assert ps('table {{.Names}}\\t{{.Label "x.y-z"}}') == ["NAMES     Y Z", "three", "one       b c"]
    assert ps("{{if .Labels}}{{.Names | upper}}{{end}}") == ["", "ONE"]
    assert ps("{{.Command}}") == ["\"sh -c 'exit 3'\"", '"sleep 1000"']
    (first, second) = map(json.loads, ps("json"))
    assert (first["Names"], second["Mounts"], "Label" in first) == ("three", "data", False)


INSPECTED = {
    "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}": "running 0 ",
    '{{index .Config.Labels "a"}}{{.Config.Labels.none}}': "1<no value>",
    "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}};{{end}}": (
        "volume data /data true;tmpfs  /tf true;"
    ),
    "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}": "67108864 500000000 50",
    "{{.HostConfig.CapAdd}} {{.HostConfig.CapDrop}}": "[CAP_NET_ADMIN] [CAP_CHOWN]",
    "{{.HostConfig.Privileged}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Init}}": "false true true",
    "{{json .HostConfig.Ulimits}}": '[{"Name":"nofile","Hard":2000,"Soft":1000}]',
    "{{.HostConfig.ExtraHosts}} {{.HostConfig.Dns}} {{.HostConfig.GroupAdd}}": "[q:1.2.3.4] [9.9.9.9] [7]",
    "{{json .HostConfig.PortBindings}}": '{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"28381"}]}',
    "{{json .Config.ExposedPorts}}": '{"53/udp":{},"80/tcp":{}}',
    "{{json .HostConfig.Tmpfs}} {{.HostConfig.SecurityOpt}}": '{"/tf":"size=1m"} [no-new-privileges]',
    "{{.Config.Domainname}} {{.Config.Cmd}} {{.Config.Entrypoint}}": "example.org [1000] [sleep]",
    "{{.Config.StopTimeout}} {{.State.Health}} {{.SizeRw}}": "7 <nil> <nil>",
}


def test_inspect_tells_what_was_asked_for(pybuild: Pybuild) -> None:
    options = (
        "-l a=1 -v data:/data -m 64m --cpus 0.5 --pids-limit 50 --cap-add NET_ADMIN --cap-drop CHOWN "
        "--read-only --init --ulimit nofile=1000:2000 --add-host q:1.2.3.4 --dns 9.9.9.9 --group-add 7 "
        "-p 127.0.0.1:28381:80 --expose 53/udp --tmpfs /tf:size=1m --security-opt no-new-privileges "
        "--domainname example.org --entrypoint sleep --stop-timeout 7"
    )
    pybuild("run", "-d", "--name", "asked", *options.split(), "busybox", "1000")
    found = {form: pybuild("inspect", "-f", form, "asked").stdout.rstrip("\n") for form in INSPECTED}
    pybuild("rm", "-f", "asked")
    pybuild("volume", "rm", "data")
    assert found == INSPECTED


UNSET = {
    "{{.Config.User}}|{{.Config.Entrypoint}}|{{.Config.Labels}}": "|[]|map[]",
    "{{json .Config.User}}{{json .Config.Entrypoint}}{{json .Config.Labels}}": '""nullnull',
    "{{json .Config.Volumes}}{{json .Config.ExposedPorts}}{{.Config.StopSignal}}": "nullnull",
    "{{.Config.Healthcheck}}{{.Config.OnBuild}}{{.Config.Shell}}{{.DockerVersion}}": "<nil>[][]",
}


def test_inspect_of_what_an_image_does_not_set(me: Pybuild) -> None:
    """Docker's fields are there, empty: scripts ask for them of any image."""
    me("pull", "busybox")
    assert {form: me("inspect", "-f", form, "busybox").stdout.rstrip("\n") for form in UNSET} == UNSET


def test_the_variables_that_inspect_shows_are_those_that_were_set(me: Pybuild) -> None:
    me("create", "--name", "set", "-e", "A=1", "busybox")
    image = json.loads(me("inspect", "-f", "{{json .Config.Env}}", "busybox").stdout) or []
    assert json.loads(me("inspect", "-f", "{{json .Config.Env}}", "set").stdout) == ["A=1", *image]
    assert me("inspect", "-f", "{{.HostConfig.CpuQuota}} {{.HostConfig.Links}}", "set").stdout == "0 []\n"
    me("rm", "set")


def test_the_group_is_one_of_the_groups(me: Pybuild) -> None:
    """Without it a setgid program could leave the group that a file is closed to (CVE-2022-36109)."""
    assert me("run", "--rm", "-u", "0:0", "busybox", "id", "-G").stdout == "0\n"
    if me.person.kind != "single":
        status = me("run", "--rm", "-u", "123:55", "busybox", "grep", "Groups", "/proc/self/status").stdout
        assert status.split() == ["Groups:", "55"]


REFUSED = {
    "-w relative": "'relative' is not an absolute path",
    "--add-host name:nowhere": "'nowhere' in 'name:nowhere' is no address",
    "--cidfile /no/such/folder/id": "can't write /no/such/folder/id",
    "--log-opt tag=x": "'tag' is not known",
    "--log-opt max-file=0": "max-file is 1 at least",
    "--cpus 1 --cpu-quota 5000": "exclude each other",
    "--health-cmd true --health-interval 10us": "less than a millisecond",
    "--uts host -h name": "exclude each other",
    "--label-file /no/such/file": "can't read /no/such/file",
    "--isolation hyperv": "isolation",
    "--mount source=v,target=/x,volume-driver=nfs": "no such volume-driver",
    "--gpus all": "docker's option --gpus is not there",
}


def test_wrong_values_are_refused_and_leave_no_container(me: Pybuild) -> None:
    for options, part in REFUSED.items():
        assert part in me("run", "--rm", *options.split(), "busybox", "true", status=125).stderr
    # Nobody has to be asked for that.
    assert "is no name" in me("create", "--name", "a/b", "registry.invalid/x", status=1).stderr
    assert me("ps", "-aq").stdout == ""


def test_options_of_run_that_are_rare(me: Pybuild) -> None:
    labels = me.folder / "out" / "labels"
    labels.write_text("# no label\nfirst=1\nbare\n")
    rare = "--cpu-period 50000 --cpu-quota 25000 --isolation default --disable-content-trust --rm=false"
    me(
        "run",
        "--name",
        "rare",
        *rare.split(),
        "--label-file",
        str(labels),
        "-l",
        "first=2",
        "busybox",
        "true",
    )
    form = "{{.HostConfig.NanoCpus}} {{json .Config.Labels}} {{.Config.OpenStdin}}"
    assert me("inspect", "-f", form, "rare").stdout == '500000000 {"first":"2","bare":""} false\n'
    me("rm", "rare")


def test_details_of_logs(me: Pybuild) -> None:
    chosen = ["--log-opt", "labels=role,none", "--log-opt", "env=OS"]
    me("run", "--name", "told", "-l", "role=db", "-e", "OS=x", *chosen, "busybox", "echo", "hello")
    assert me("logs", "--details", "told").stdout == "OS=x,role=db hello\n"
    assert me("logs", "told").stdout == "hello\n"
    me("rm", "told")


def test_removing_by_force_what_is_not_there_is_no_error(me: Pybuild) -> None:
    me("create", "--name", "there", "busybox")
    result = me("rm", "-f", "missing", "there")
    assert result.stdout == "there\n"
    assert "no such container: missing" in result.stderr


def test_a_restart_policy_is_about_commands_that_ran(pybuild: Pybuild) -> None:
    """One that can't be executed is not tried for ever, and `run` says what is wrong with it."""
    for policy in ("always", "on-failure"):
        wrong = pybuild("run", "-d", "--name", policy, "--restart", policy, "busybox", "no-such", status=127)
        assert "not found" in wrong.stderr
        assert pybuild("inspect", "-f", "{{.State.Running}} {{.RestartCount}}", policy).stdout == "false 0\n"
        pybuild("rm", policy)


def test_a_tar_of_contents_begins_at_the_dot(me: Pybuild) -> None:
    """So that it can be unpacked in a folder of any name: ``cp web:/srv/. - | tar -xC there``."""
    me("create", "--name", "full", "busybox")
    folder = me.folder / "out"
    (folder / "srv").mkdir()
    (folder / "srv" / "page").write_text("text")
    me("cp", f"{folder}/srv", "full:/")
    tar = me("cp", "full:/srv/.", "-").stdout.encode()
    listed = subprocess.run(["tar", "t"], input=tar, capture_output=True, check=True).stdout
    assert listed.split() == [b"./", b"./page"]
    me("rm", "full")


def test_what_everything_takes(two: Pybuild) -> None:
    lines = two("system", "df", "--format", "{{.Type}}:{{.TotalCount}}:{{.Active}}").stdout.splitlines()
    assert lines == ["Images:1:1", "Containers:2:1", "Local Volumes:1:1", "Build Cache:0:0"]
    two("exec", "one", "dd", "if=/dev/zero", "of=/data/big", "bs=1000", "count=1000")
    assert "Local Volumes   1         1         1MB" in two("system", "df").stdout
    verbose = two("system", "df", "-v").stdout
    assert all(name in verbose for name in ("busybox", "three", "data", "'exit 3'", "1MB"))


def test_events_by_the_names_of_templates_and_of_json(two: Pybuild) -> None:
    flags = ("--since", "1h", "--until", "0s", "-f", "container=three", "-f", "event=die")
    form = "{{.Status}} {{.From}} {{.Scope}} {{.Actor.Attributes.exitCode}}{{.Actor.Attributes.none}}"
    assert two("events", *flags, "--format", form).stdout == "die busybox local 3<no value>\n"
    id = two("ps", "-aq", "--no-trunc", "-f", "name=three").stdout.strip()
    assert two("events", *flags, "--format", "{{.ID}} {{len .ID}} {{.Actor.ID}}").stdout == f"{id} 64 {id}\n"
    told = json.loads(two("events", *flags, "--format", "json").stdout)
    assert (told["id"], told["status"], "ID" in told) == (id, "die", False)


def test_events_of_volumes_that_containers_make(two: Pybuild) -> None:
    two("run", "--rm", "-v", "/anonymous", "busybox", "true")
    two("run", "--rm", "-v", "data:/again", "busybox", "true")
    flags = ("--since", "1h", "--until", "0s", "-f", "type=volume", "--format", "{{.Action}} {{len .ID}}")
    assert two("events", *flags).stdout.splitlines() == ["create 4", "create 64", "destroy 64"]
    form = 'table {{.Name}}\t{{.Label "a"}}'
    assert two("volume", "ls", "--format", form).stdout.splitlines() == ["VOLUME NAME   A", "data"]


def test_the_name_of_the_host_is_a_file_that_leaves_no_trace(pybuild: Pybuild) -> None:
    pybuild(
        "run",
        "--name",
        "named",
        "-h",
        "db",
        "busybox",
        "sh",
        "-c",
        "cat /etc/hostname; echo x >/etc/hostname",
    )
    assert pybuild("logs", "named").stdout == "db\n"
    assert pybuild("diff", "named").stdout == ""
    pybuild("rm", "named")


TOPS = {
    "": "UID PID PPID C STIME TTY TIME CMD",
    "-ef": "UID PID PPID C STIME TTY TIME CMD",
    "aux": "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
    "-eo pid,comm,%cpu": "PID COMMAND %CPU",
    "-o user,etime,args": "USER ELAPSED COMMAND",
}


def test_options_of_top(two: Pybuild) -> None:
    for options, headings in TOPS.items():
        title, process = two("top", "one", *options.split()).stdout.splitlines()
        assert title.split() == headings.split()
        assert "sleep" in process
    assert "no field 'nothing'" in two("top", "one", "-o", "nothing", status=2).stderr


def test_info(two: Pybuild) -> None:
    form = "{{.Containers}} {{.ContainersRunning}} {{.ContainersStopped}} {{.Images}} {{.DockerRootDir}}"
    assert two("info", "-f", form).stdout == f"2 1 1 1 {two.store}\n"
    assert "Running: 1" in two("info").stdout
    assert f"Rootless: {str(two.person.uid != 0).lower()}\n" in two("info").stdout


def test_history_of_an_image(two: Pybuild) -> None:
    lines = two(
        "history", "--no-trunc", "--format", "{{.ID}}|{{.CreatedBy}}|{{.Size}}", "busybox"
    ).stdout.splitlines()
    assert (
        lines
        == two(
            "image", "history", "--no-trunc", "--format", "{{.ID}}|{{.CreatedBy}}|{{.Size}}", "busybox"
        ).stdout.splitlines()
    )
    assert lines[0].startswith("sha256:")
    assert two("history", "-q", "busybox").stdout.splitlines()[0] == lines[0][7:19]
    sizes = two("history", "--human=false", "--format", "{{.Size}}", "busybox").stdout.split()
    assert sum(map(int, sizes)) > 1 << 19


def test_names_may_begin_with_a_slash(two: Pybuild) -> None:
    """As `inspect` shows them; docker's reference has ``docker rm /redis``."""
    assert two("inspect", "-f", "{{.Name}}", "/one").stdout == "/one\n"
    two("rename", "/three", "/four")
    assert two("ps", "-a", "--format", "{{.Names}}").stdout.split() == ["four", "one"]
    assert two("rm", "/four").stdout == "/four\n"
    for name in ("/missing", ""):
        assert "no such container" in two("inspect", name, status=1).stderr


def test_a_command_with_stdin_alone_tells_its_id(me: Pybuild) -> None:
    id = me("run", "-i", "-a", "stdin", "busybox", "cat", "-", input="test\n").stdout.strip()
    assert me("logs", id).stdout == "test\n"
    me("rm", id)


def test_updated_swap_is_beside_the_memory_that_there_is(me: Pybuild) -> None:
    me("create", "--name", "some", "-m", "64m", "busybox")
    me("update", "--memory-swap", "-1", "some")
    assert me("inspect", "-f", "{{.HostConfig.MemorySwap}}", "some").stdout == "-1\n"
    me("create", "--name", "none", "busybox")
    assert "needs --memory" in me("update", "--memory-swap", "1g", "none", status=None).stderr
    me("rm", "some", "none")
