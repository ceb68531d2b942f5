# What the scripts share; sourced, not run.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# environment FOLDER EXTRAS: a virtual environment with this package and its extras, made once
environment() {
    local folder=$1 extras=$2
    if [ ! -x "$folder/bin/openmm-duality" ]; then
        echo "== making $folder with openmm_duality[$extras]"
        "${PYTHON:-python3}" -m venv "$folder"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -e "$here[$extras]"
    fi
}

# programs PACKAGE…: Debian packages that are not there yet, installed where that is allowed
programs() {
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "== installing ${missing[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    else
        echo "!! ${missing[*]} cannot be installed by this user, and tests that need them will fail. Ask for:"
        echo "   sudo apt-get install ${missing[*]}"
    fi
}

# has_cp2k: whether CP2K is installed
has_cp2k() {
    command -v cp2k.psmp >/dev/null || command -v cp2k.ssmp >/dev/null
}
