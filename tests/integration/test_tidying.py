"""No test finds what another one has left behind, whatever that was."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import TransactionTestCase

from merchants.models import Merchant, User
from tests import tidying

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def names():
    """The roles of the console and the permissions, as a fresh database has them."""
    return sorted(Group.objects.values_list("name", "permissions__codename"))


def leave_something():
    user = User.objects.create_user("ada")
    user.groups.add(Group.objects.first())
    user.user_permissions.add(Permission.objects.first())
    Merchant.objects.create(slug="shop", name="Shop", currency="EUR")


def test_no_row_stays_and_what_migrating_made_does(names):
    before = tidying.contents()
    leave_something()
    tidying.tidy_up(None)
    assert not any(tidying.tables().values())
    assert tidying.contents() == before


@pytest.mark.parametrize(
    "touch",
    [
        lambda: Group.objects.all().delete(),
        lambda: Group.objects.create(name="mine"),
        lambda: Group.permissions.through.objects.all().delete(),
        lambda: Permission.objects.filter(pk=Permission.objects.first().pk).update(codename="renamed"),
    ],
    ids=["deleted", "added", "emptied", "renamed"],
)
def test_a_role_that_somebody_has_changed_is_made_anew(names, touch):
    case = type("Case", (TransactionTestCase,), {"runTest": None})()
    leave_something()
    touch()
    tidying.tidy_up(case)
    assert not any(tidying.tables().values())
    assert sorted(Group.objects.values_list("name", "permissions__codename")) == names
    assert not Permission.objects.filter(codename="renamed").exists()
