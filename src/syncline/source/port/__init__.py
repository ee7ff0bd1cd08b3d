"""The port between the server and a company's database. SQLite, PostgreSQL and MariaDB implement it.

An implementation owns all SQL. What it must do is written down as tests: `syncline.testing.source_contract`.
"""

from syncline.source.port.downloads import (
    Claims,
    Cursor,
    Cut,
    Delta,
    Entries,
    LapPage,
    OutcomeRecord,
    Page,
    PageRows,
    PageSize,
    Since,
    Survey,
    Walk,
)
from syncline.source.port.reports import (
    ExampleDownload,
    Finding,
    ProvisionReport,
    ReadsUnseenError,
    RecordFilter,
    Registration,
    Removal,
    ScopeReport,
)
from syncline.source.port.source import Source
from syncline.source.port.terms import Checkpoint, Head, TermLostError
from syncline.source.port.uploads import (
    ConflictRecord,
    DeviceRow,
    PiecemealError,
    Prepared,
    RowRead,
    SourceRefusedError,
    StoredOutcome,
    TransactionLostError,
    UploadPace,
    WriteTransaction,
)

__all__ = [
    "Checkpoint",
    "Claims",
    "ConflictRecord",
    "Cursor",
    "Cut",
    "Delta",
    "DeviceRow",
    "Entries",
    "ExampleDownload",
    "Finding",
    "Head",
    "LapPage",
    "OutcomeRecord",
    "Page",
    "PageRows",
    "PageSize",
    "PiecemealError",
    "Prepared",
    "ProvisionReport",
    "ReadsUnseenError",
    "RecordFilter",
    "Registration",
    "Removal",
    "RowRead",
    "ScopeReport",
    "Since",
    "Source",
    "SourceRefusedError",
    "StoredOutcome",
    "Survey",
    "TermLostError",
    "TransactionLostError",
    "UploadPace",
    "Walk",
    "WriteTransaction",
]
