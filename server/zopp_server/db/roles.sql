-- Roles belong to a whole cluster, not to one database, so this file bears no number: `prepare` runs it before the
-- migrations, as often as you like, as a superuser. Passwords are set beside it.
--
-- zopp_audit_owner owns schema audit and logs in nowhere. zopp_migrate changes schemas. zopp_app is the running server
-- and owns nothing. zopp_read is for auditors and metrics.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['zopp_audit_owner', 'zopp_migrate', 'zopp_app', 'zopp_read'] LOOP
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I', name);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;  -- another prepare, of another database of this cluster, was faster
      END;
    END IF;
  END LOOP;
END
$$;

ALTER ROLE zopp_audit_owner NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE zopp_migrate LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE zopp_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE zopp_read LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;

-- A migration may act as the owner of schema audit; nothing at run time may.
GRANT zopp_audit_owner TO zopp_migrate;
