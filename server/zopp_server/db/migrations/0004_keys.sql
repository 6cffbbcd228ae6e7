-- Schema keys: the server's keys of brokered environments, encrypted outside the database. A row is retired by its state,
-- never deleted.
CREATE SCHEMA keys;

CREATE TABLE keys.server_key (
  ws         text NOT NULL,
  project    text NOT NULL,
  env        text NOT NULL,
  generation integer NOT NULL CHECK (generation >= 0),
  recipient  text NOT NULL UNIQUE,
  kek_id     text NOT NULL,
  wrapped    bytea NOT NULL,
  state      text NOT NULL CHECK (state IN ('proposed', 'active', 'retired')),
  PRIMARY KEY (ws, project, env, generation)
);

GRANT USAGE ON SCHEMA keys TO zopp_app;
GRANT SELECT, INSERT, UPDATE ON keys.server_key TO zopp_app;
