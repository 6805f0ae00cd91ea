"""Build checks: findings about a Dockerfile that builds all the same.

Dockerfile reference, "Build checks". A new rule is a function of a Conversion and a line in RULES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from buildkit_py.frontends.dockerfile.checks import instructions, noted, settings, stages
from buildkit_py.frontends.dockerfile.checks.finding import Finding
from buildkit_py.llb.result import Warning
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.frontends.dockerfile.conversion import Conversion

RULES: dict[str, Callable[[Conversion], Iterator[Finding]]] = {
    "StageNameCasing": stages.stage_name_casing,
    "FromAsCasing": stages.from_as_casing,
    "NoEmptyContinuation": instructions.no_empty_continuation,
    "ConsistentInstructionCasing": instructions.consistent_instruction_casing,
    "DuplicateStageName": stages.duplicate_stage_name,
    "ReservedStageName": stages.reserved_stage_name,
    "JSONArgsRecommended": instructions.json_args_recommended,
    "MaintainerDeprecated": instructions.maintainer_deprecated,
    "UndefinedArgInFrom": stages.undefined_arg_in_from,
    "WorkdirRelativePath": noted.workdir_relative_path,
    "UndefinedVar": noted.undefined_var,
    "MultipleInstructionsDisallowed": instructions.multiple_instructions_disallowed,
    "LegacyKeyValueFormat": instructions.legacy_key_value_format,
    "InvalidBaseImagePlatform": noted.invalid_base_image_platform,
    "RedundantTargetPlatform": stages.redundant_target_platform,
    "SecretsUsedInArgOrEnv": instructions.secrets_used_in_arg_or_env,
    "InvalidDefaultArgInFrom": stages.invalid_default_arg_in_from,
    "FromPlatformFlagConstDisallowed": stages.from_platform_flag_const,
    "CopyIgnoredFile": noted.copy_ignored_file,
    "InvalidDefinitionDescription": stages.invalid_definition_description,
    "ExposeProtoCasing": noted.expose_proto_casing,
    "ExposeInvalidFormat": noted.expose_invalid_format,
}

EXPERIMENTAL = frozenset(("InvalidDefinitionDescription",))
"""Run only where ``# check=experimental=…`` names them."""

_PAGES = "https://docs.docker.com/go/dockerfile/rule/"


def run(conversion: Conversion) -> tuple[Warning, ...]:
    """All findings, in the order of the file. ``error`` is set where the file asks for it."""
    dockerfile = conversion.dockerfile
    override = conversion.options.build_args.get("BUILDKIT_DOCKERFILE_CHECK")
    wanted = settings.of_file(dockerfile, override)
    if "all" in wanted.skip:
        return ()
    local = settings.of_instructions(dockerfile)
    found: dict[Warning, None] = {}
    for rule, check in RULES.items():
        if wanted.skips(rule) or (rule in EXPERIMENTAL and not wanted.enables(rule)):
            continue
        for finding in check(conversion):
            start, end = finding.range
            if start not in local or not local[start].skips(rule):
                found[
                    Warning(rule, finding.message, dockerfile.path, start, end, page(rule), wanted.error)
                ] = None
    return tuple(sorted(found, key=lambda warning: warning.start))


def page(rule: str) -> str:
    """Where a rule is explained: ``JSONArgsRecommended`` -> …/json-args-recommended/."""
    name = ""
    for position, char in enumerate(rule):
        following = rule[position + 1 : position + 2]
        before = rule[position - 1] if position else ""
        if char.isupper() and before and (before.islower() or following.islower()):
            name += "-"
        name += char.lower()
    return f"{_PAGES}{name}/"
