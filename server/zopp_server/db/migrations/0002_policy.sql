-- Schema policy: `statement` is the truth. Everything below it is a projection that can be rebuilt, and decides nothing:
-- each server decides from its own fold of verified lines. Ids are the names, and no row is ever reused. Nothing
-- cascades. What policy keeps for ever (users, principals, archived environments) keeps its row here.
CREATE SCHEMA policy;

-- note is the checkpoint under which a server.set was accepted: after a change of the log key nobody can sign it again.
CREATE TABLE policy.statement (
  ws        text NOT NULL,
  seq       bigint NOT NULL CHECK (seq >= 0),
  hash      bytea NOT NULL CHECK (octet_length(hash) = 32),
  line      bytea NOT NULL,
  entry_seq bigint NOT NULL,
  note      text,
  PRIMARY KEY (ws, seq),
  UNIQUE (ws, hash)
);

CREATE TABLE policy.workspace (
  id          text PRIMARY KEY,
  genesis     bytea NOT NULL UNIQUE CHECK (octet_length(genesis) = 32),
  policy_seq  bigint NOT NULL CHECK (policy_seq >= 0),
  policy_head bytea NOT NULL CHECK (octet_length(policy_head) = 32)
);

CREATE TABLE policy.project (
  ws       text NOT NULL REFERENCES policy.workspace,
  id       text NOT NULL,
  archived boolean NOT NULL,
  PRIMARY KEY (ws, id)
);

CREATE TABLE policy.environment (
  ws            text NOT NULL,
  project       text NOT NULL,
  id            text NOT NULL,
  kind          text NOT NULL CHECK (kind IN ('direct', 'brokered')),
  protected     boolean NOT NULL,
  read_lost_seq bigint NOT NULL,
  archived      boolean NOT NULL,
  PRIMARY KEY (ws, project, id),
  FOREIGN KEY (ws, project) REFERENCES policy.project
);

CREATE TABLE policy.users (
  ws        text NOT NULL REFERENCES policy.workspace,
  id        text NOT NULL,
  email_tag bytea,
  enabled   boolean NOT NULL,
  PRIMARY KEY (ws, id)
);

CREATE TABLE policy.principal (
  ws        text NOT NULL REFERENCES policy.workspace,
  id        text NOT NULL,
  kind      text NOT NULL CHECK (kind IN ('device', 'service')),
  user_id   text,
  ed25519   bytea CHECK (octet_length(ed25519) = 32),
  recipient text NOT NULL,
  cap       smallint CHECK (cap BETWEEN 0 AND 3),
  enabled   boolean NOT NULL,
  PRIMARY KEY (ws, id),
  UNIQUE (ws, ed25519),
  UNIQUE (ws, recipient),
  FOREIGN KEY (ws, user_id) REFERENCES policy.users,
  CHECK ((kind = 'device') = (user_id IS NOT NULL)),
  CHECK (kind = 'device' OR cap IS NULL)
);

CREATE TABLE policy.grp (
  ws text NOT NULL REFERENCES policy.workspace,
  id text NOT NULL,
  PRIMARY KEY (ws, id)
);

CREATE TABLE policy.grp_member (
  ws           text NOT NULL,
  grp          text NOT NULL,
  subject_kind text NOT NULL CHECK (subject_kind IN ('user', 'service')),
  subject      text NOT NULL,
  PRIMARY KEY (ws, grp, subject),
  FOREIGN KEY (ws, grp) REFERENCES policy.grp
);

CREATE TABLE policy.binding (
  ws           text NOT NULL REFERENCES policy.workspace,
  subject_kind text NOT NULL CHECK (subject_kind IN ('user', 'group', 'service')),
  subject      text NOT NULL,
  scope_kind   text NOT NULL CHECK (scope_kind IN ('workspace', 'project', 'env')),
  scope        text NOT NULL,
  role         smallint NOT NULL CHECK (role BETWEEN 1 AND 3),
  PRIMARY KEY (ws, subject, scope)
);

CREATE TABLE policy.auditor (
  ws      text NOT NULL REFERENCES policy.workspace,
  subject text NOT NULL,
  PRIMARY KEY (ws, subject)
);

CREATE TABLE policy.oidc_rule (
  ws       text NOT NULL REFERENCES policy.workspace,
  id       text NOT NULL,
  service  text NOT NULL,
  issuer   text NOT NULL,
  audience text NOT NULL,
  claims   text NOT NULL,
  max_ttl  integer NOT NULL CHECK (max_ttl BETWEEN 1 AND 900),
  PRIMARY KEY (ws, id)
);

CREATE TABLE policy.invite (
  ws         text NOT NULL REFERENCES policy.workspace,
  id         text NOT NULL,
  pubkey     bytea NOT NULL CHECK (octet_length(pubkey) = 32),
  email_tag  bytea,
  scope      text NOT NULL,
  role       smallint NOT NULL CHECK (role BETWEEN 0 AND 3),
  created_by text NOT NULL,
  not_after  bigint NOT NULL,
  status     text NOT NULL CHECK (status IN ('open', 'used', 'revoked', 'dead')),
  PRIMARY KEY (ws, id),
  UNIQUE (ws, pubkey)
);

GRANT USAGE ON SCHEMA policy TO zopp_app;
GRANT SELECT, INSERT ON policy.statement TO zopp_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON policy.workspace, policy.project, policy.environment, policy.users,
  policy.principal, policy.grp, policy.grp_member, policy.binding, policy.auditor, policy.oidc_rule, policy.invite
  TO zopp_app;
