"""What each rule is about, in a sentence. The pages are docs/checks/."""

from __future__ import annotations

DESCRIPTIONS = {
    "StageNameCasing": "Stage names should be lowercase",
    "FromAsCasing": "The 'as' keyword should match the case of the 'from' keyword",
    "NoEmptyContinuation": "Empty continuation lines will become errors in a future release",
    "ConsistentInstructionCasing": "All commands within the Dockerfile should use the same casing",
    "DuplicateStageName": "Stage names should be unique",
    "ReservedStageName": "Reserved words should not be used as stage names",
    "JSONArgsRecommended": "JSON arguments recommended for ENTRYPOINT and CMD, which then get signals",
    "MaintainerDeprecated": "The MAINTAINER instruction is deprecated, use a label instead",
    "UndefinedArgInFrom": "FROM must use ARGs that are declared before it",
    "WorkdirRelativePath": "A relative WORKDIR without an absolute one before it depends on the base image",
    "UndefinedVar": "Variables should be defined before their use",
    "MultipleInstructionsDisallowed": "CMD, ENTRYPOINT and HEALTHCHECK should be given once in a stage",
    "LegacyKeyValueFormat": "The old key and value format with white space should not be used",
    "InvalidBaseImagePlatform": "The base image's platform is not the one that was asked for",
    "RedundantTargetPlatform": "Setting the platform to $TARGETPLATFORM is the default",
    "SecretsUsedInArgOrEnv": "Secrets should not be given in ARG or ENV",
    "InvalidDefaultArgInFrom": "The default of a global ARG gives an empty or invalid base image name",
    "FromPlatformFlagConstDisallowed": "FROM --platform should not use a constant value",
    "CopyIgnoredFile": "A file that .dockerignore excludes can't be copied",
    "InvalidDefinitionDescription": "A comment above FROM or ARG should have the form of a description",
    "ExposeProtoCasing": "The protocol of EXPOSE should be lowercase",
    "ExposeInvalidFormat": "EXPOSE should not define an IP address or a host port",
}
