"""What a fit says, for people: tables as text, HTML, Markdown and LaTeX."""

from .summary import FitSummary

__all__ = ["FitSummary"]
