"""The one way to start external programs: where they are, their arguments, how they start. No policy.

`programs` finds and verifies them, `profile` and `arguments` are pure, `processes` starts them.
"""

from pipeline.dcmtk.arguments import (
    NoRoomInShell,
    echoscu_argv,
    encrypted,
    findscu_argv,
    getscu_argv,
    hook_command,
    log_configuration,
    movescu_argv,
    storescp_inetd_argv,
    storescp_study_argv,
    study_files,
)
from pipeline.dcmtk.command_dictionary import command_dictionary, command_dictionary_file
from pipeline.dcmtk.known_bugs import KnownBug, known_bugs_of
from pipeline.dcmtk.processes import UMASK, FinishedProgram, run, start
from pipeline.dcmtk.profile import PROFILE, profile_text, proposed_sop_classes, study_sop_classes
from pipeline.dcmtk.programs import ProgramVersion, environment, program, shortcomings, version
from pipeline.dcmtk.responses import (
    Progress,
    QueryAnswers,
    SubOperations,
    find_answers,
    is_rejected_for_now,
    problems,
)

__all__ = [
    "PROFILE",
    "UMASK",
    "FinishedProgram",
    "KnownBug",
    "NoRoomInShell",
    "ProgramVersion",
    "Progress",
    "QueryAnswers",
    "SubOperations",
    "command_dictionary",
    "command_dictionary_file",
    "echoscu_argv",
    "encrypted",
    "environment",
    "find_answers",
    "findscu_argv",
    "getscu_argv",
    "hook_command",
    "is_rejected_for_now",
    "known_bugs_of",
    "log_configuration",
    "movescu_argv",
    "problems",
    "profile_text",
    "program",
    "proposed_sop_classes",
    "run",
    "shortcomings",
    "start",
    "storescp_inetd_argv",
    "storescp_study_argv",
    "study_files",
    "study_sop_classes",
    "version",
]
