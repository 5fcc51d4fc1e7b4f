"""Database triggers that no role can switch off by a setting.

The triggers that django-pgtrigger generates ask `_pgtrigger_should_ignore` first, which reads `pgtrigger.ignore`: a
setting that every role may set for its own session. The classes here have the same rules and ask nothing. Only the
owner of a table can set such a trigger aside, with `ALTER TABLE … DISABLE TRIGGER`. See docs/adr/0029.
"""

from typing import Any, Final

import pgtrigger
from django.db import connection
from pgtrigger import compiler

#: The functions of some triggers, and what decides how they run.
FUNCTIONS: Final = """
    SELECT tgname, prosrc, proconfig, prosecdef, proowner = relowner
    FROM pg_trigger
    JOIN pg_proc ON pg_proc.oid = tgfoid
    JOIN pg_class ON pg_class.oid = tgrelid
    WHERE tgname = ANY(%s) AND relnamespace = 'public'::regnamespace
"""
#: The body of `OwnerOnly`.
OWNER_ONLY: Final = """
    IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        RAISE EXCEPTION 'permission denied: {name} is for the owner of table %', TG_TABLE_NAME
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
"""
SEARCH_PATH: Final = "pg_catalog, pg_temp"


class EnforcedTriggerSql(compiler.UpsertTriggerSql):
    """The SQL of a trigger. Migrations name this class, so the template never changes: a new one is a new class.

    Replacing a trigger waits for writers of its table and not for readers. The function finds operators and functions
    in `pg_catalog` only, whatever `search_path` a session sets.
    """

    def get_template(self) -> str:
        """Return the template; pgtrigger fills it in."""
        return """
            CREATE OR REPLACE FUNCTION {pgid}()
            RETURNS TRIGGER AS $$
                {declare}
                BEGIN
                    {func}
                END;
            $$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

            CREATE OR REPLACE TRIGGER {pgid}
                {when} {operation} ON {table}
                {referencing}
                FOR EACH {level} {condition}
                EXECUTE FUNCTION {execute};

            COMMENT ON TRIGGER {pgid} ON {table} IS '{hash}';
        """


class Enforced(pgtrigger.Trigger):
    """Mixin for a trigger of pgtrigger: its rule holds for every role."""

    def compile(self, model: Any) -> compiler.Trigger:
        """Return the trigger as migrations and `pgtrigger install` create it."""
        assert not self.timing, "a constraint trigger cannot be replaced in place"
        compiled = super().compile(model)
        return compiler.Trigger(name=compiled.name, sql=EnforcedTriggerSql(**compiled.sql.kwargs))


class Protect(Enforced, pgtrigger.Protect):
    """Refuse an operation."""


class ReadOnly(Enforced, pgtrigger.ReadOnly):
    """Refuse changes to some columns."""


class FSM(Enforced, pgtrigger.FSM):
    """Allow only some transitions of a column."""


class OwnerOnly(Enforced):
    """Refuse an operation to every role that is not the table's owner, or one of the owner's."""

    when = pgtrigger.Before

    def get_func(self, model: Any) -> str:
        """Return the body of the trigger's function."""
        return self.format_sql(OWNER_ONLY.replace("{name}", str(self.name)))


def weakened() -> list[str]:
    """Return the registered triggers whose function is missing or is not the one that the code has.

    The comment on a trigger, by which pgtrigger tells an outdated one, says nothing about its function: that can be
    replaced by itself.
    """
    registered = [(trigger, model) for model, trigger in pgtrigger.registered()]
    names = {trigger.get_pgid(model): trigger.get_uri(model) for trigger, model in registered}
    wanted = {trigger.get_pgid(model): _function_of(trigger.compile(model)) for trigger, model in registered}
    with connection.cursor() as cursor:
        cursor.execute(FUNCTIONS, [list(names)])
        found = {name: tuple(function) for name, *function in cursor.fetchall()}
    expected = {name: (source, [f"search_path={SEARCH_PATH}"], False, True) for name, source in wanted.items()}
    return sorted(names[name] for name in names if _plain(found.get(name)) != expected[name])


def _plain(found: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """Return a row of `FUNCTIONS` with a list where PostgreSQL has an array."""
    return found and (found[0], list(found[1] or []), *found[2:])


def _function_of(compiled: compiler.Trigger) -> str:
    """Return the body of a compiled trigger's function, as `pg_proc.prosrc` has it."""
    return str(compiled.install_sql).split("$$")[1]
