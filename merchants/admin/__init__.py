"""Merchants, people, their sessions and the keys of services in the admin."""

from merchants.admin.keys import ApiKeyAdmin
from merchants.admin.merchants import MerchantAdmin
from merchants.admin.people import PersonAdmin
from merchants.admin.sessions import LoginSessionAdmin

__all__ = ["ApiKeyAdmin", "LoginSessionAdmin", "MerchantAdmin", "PersonAdmin"]
