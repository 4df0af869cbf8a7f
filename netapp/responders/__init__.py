"""What answers requests out of the box."""

from netapp.responders.welcome import welcome_router

__all__ = ["welcome_router"]
