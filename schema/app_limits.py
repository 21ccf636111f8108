"""The problem of an app that was allowed to move less money than it asked for."""

from domain import partners
from schema.problems import Problem, problem


@problem(
    partners.AppLimitExceeded,
    description="The app was allowed to move less than this under its grant. Nothing was moved.",
)
class AppLimitExceeded(Problem):
    """Code APP_LIMIT_EXCEEDED."""
