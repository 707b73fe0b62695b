# What a `run` script needs, from within the root of the tree.

# Where users' PATH does not lead.
export PATH=$PATH:/usr/sbin
export PYTHONPATH=$PWD/tests/support PYTHONDONTWRITEBYTECODE=1

# Installs Debian packages.
install_packages() {
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# Puts a venv with tests/NAME/requirements.txt first in PATH: use_venv NAME
use_venv() {
  local requirements=tests/$1/requirements.txt venv=$PWD/target/$1-venv
  python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
  # The copy is made last, so that a venv that was not finished is made anew.
  if ! cmp -s "$requirements" "$venv/requirements.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$venv/"
  fi
  PATH=$venv/bin:$PATH
}

# Builds the service, unless PORTCULLIS_BIN names a binary.
use_binary() {
  if [ -z "${PORTCULLIS_BIN:-}" ]; then
    cargo build --locked
    PORTCULLIS_BIN=${CARGO_TARGET_DIR:-target}/debug/portcullis
  fi
  export PORTCULLIS_BIN
}
