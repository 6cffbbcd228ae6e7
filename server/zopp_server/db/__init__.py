"""The database: numbered SQL files, what applies them, and what refuses a database that has been weakened."""
