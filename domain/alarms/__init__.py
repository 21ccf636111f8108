"""Alarms: goods read too fast, honey keys that turned up, keys that leaked; exports stop until an owner has looked.

`ring` raises one, `count_export` and `watch_reveals` count what is read, `refuse_exports` is the stop.
"""

from domain.alarms.actions import AlertClosed, acknowledge, prune, ring
from domain.alarms.counting import READ_MAX as REVEALS_MAX
from domain.alarms.counting import count_export, watch_reveals
from domain.alarms.models import Alert
from domain.alarms.queries import ExportsStopped, alerts, find_alert, open_alerts, refuse_exports
from domain.alarms.rules import AlertKind

__all__ = [
    "REVEALS_MAX",
    "Alert",
    "AlertClosed",
    "AlertKind",
    "ExportsStopped",
    "acknowledge",
    "alerts",
    "count_export",
    "find_alert",
    "open_alerts",
    "prune",
    "refuse_exports",
    "ring",
    "watch_reveals",
]
