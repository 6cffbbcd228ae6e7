"""Which names may carry a secret: the target name rule, and the one list of names that are code (attacks.md A27).

`set`, `run`, `export`, `inject`, `sync` and the importers all ask here, so that a name refused by one is refused by
all. Exceptions are made name by name in local settings and passed in; the repository cannot make them. Lean.
"""

from zopp.errors import Denied, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

# Who sets one of these runs code, or turns off a check, in programs that did not ask for it.
_CODE_TEXT = """
    PATH ENV IFS SHELL SHELLOPTS BASHOPTS BASH_ENV BASH_XTRACEFD PS4 PROMPT_COMMAND CDPATH GLOBIGNORE ZDOTDIR FPATH
    EDITOR VISUAL PAGER MANPAGER LESSOPEN LESSCLOSE BROWSER NODE_OPTIONS NODE_PATH NODE_EXTRA_CA_CERTS
    NODE_TLS_REJECT_UNAUTHORIZED ELECTRON_RUN_AS_NODE PERL5LIB PERL5OPT PERL5DB PERLLIB RUBYOPT RUBYLIB RUBYSHELL
    BUNDLE_GEMFILE GEM_HOME GEM_PATH PHPRC PHP_INI_SCAN_DIR JAVA_TOOL_OPTIONS _JAVA_OPTIONS JDK_JAVA_OPTIONS JAVA_OPTS
    CLASSPATH MAVEN_OPTS GRADLE_OPTS SBT_OPTS GOFLAGS GOPROXY GONOSUMDB GOSUMDB RUSTC RUSTC_WRAPPER RUSTFLAGS
    DOTNET_STARTUP_HOOKS CORECLR_PROFILER CORECLR_PROFILER_PATH CORECLR_ENABLE_PROFILING COR_PROFILER COR_PROFILER_PATH
    LUA_INIT LUA_PATH LUA_CPATH TCLLIBPATH R_PROFILE R_ENVIRON GCONV_PATH LOCPATH NLSPATH GLIBC_TUNABLES HOSTALIASES
    LOCALDOMAIN RES_OPTIONS OPENSSL_CONF OPENSSL_ENGINES OPENSSL_MODULES SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE
    CURL_CA_BUNDLE CURL_HOME SSH_AUTH_SOCK SSH_ASKPASS SUDO_ASKPASS RSYNC_RSH CVS_RSH MAKEFLAGS MAKEFILES MFLAGS CC CXX
"""
_CODE = frozenset(_CODE_TEXT.split())
_CODE_PREFIXES = ("LD_", "DYLD_", "BASH_FUNC_", "PYTHON", "PERL5", "GIT_", "SOPS_", "ZOPP_", "LUA_INIT_")
# These are honoured in lower case too.
_CODE_ANY_CASE = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY", "RSYNC_PROXY"})
_CODE_PREFIX_ANY_CASE = "NPM_CONFIG_"
_WARN = frozenset({"HOME", "PS1", "TERM", "USER", "LOGNAME", "TMPDIR"})
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
_MAX_LENGTH = 256


def is_code(name: str) -> bool:
    """Whether a variable of this name makes other programs run or trust something."""
    upper = name.upper()
    if upper in _CODE_ANY_CASE or upper.startswith(_CODE_PREFIX_ANY_CASE):
        return True
    return name in _CODE or name.startswith(_CODE_PREFIXES)


def is_target(name: str) -> bool:
    """Whether `name` is `[A-Za-z_][A-Za-z0-9_]*`, ASCII, at most 256 long: what every format here can carry."""
    return 0 < len(name) <= _MAX_LENGTH and name[0] in _LETTERS and not name.strip(_LETTERS + "0123456789")


def reason(name: str, allowed: "Collection[str]" = ()) -> str:
    """Why `name` may not carry a secret, as a rule id: `odd-name`, `sops-name`, `code-name`; '' if it may.
    `allowed` are the names that this user's local settings except from the list of code."""
    if not is_target(name):
        return "odd-name"
    if name == "sops" or name.startswith("sops_"):
        return "sops-name"
    if is_code(name) and name not in allowed:
        return "code-name"
    return ""


def check_name(name: str, allowed: "Collection[str]" = ()) -> None:
    """Raise for a name that may not carry a secret: UsageError for its form, Denied for one that is code."""
    rule = reason(name, allowed)
    if rule == "odd-name":
        raise UsageError("a name is letters, digits and underscores and does not begin with a digit", code=rule)
    if rule == "sops-name":
        raise UsageError(f"{name}: sops keeps its metadata under names like this", code=rule, name=name)
    if rule:
        raise Denied(f"{name}: programs run or trust what a variable of this name says", code=rule, name=name)


def is_odd_target(name: str) -> bool:
    """Whether to warn: setting it is seldom meant (`HOME`, `PS1`, …)."""
    return name in _WARN
