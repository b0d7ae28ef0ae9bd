"""Ask PyPI for the known vulnerabilities of the exact versions in constraints.txt; `make audit`
calls this.

Ends with 1 if there is one that nobody has read. Where PyPI does not answer (a mirror may serve the
packages alone), it says of how many packages nothing is known, which is not the same as good.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
READ: dict[str, str] = {}  # vulnerability to the reason why it does not concern Lookalike


def ask(file: Path) -> dict:
    """The report of pip-audit on a file of exact versions; nothing is installed for it."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--requirement",
        str(file),
        "--no-deps",
        "--disable-pip",
    ]
    process = subprocess.run(
        [*command, "--format", "json", "--progress-spinner", "off"], capture_output=True, text=True
    )
    if not process.stdout.startswith("{"):  # 1 also means that something was found
        sys.exit(f"pip-audit gave no report: {process.stderr.strip() or process.returncode}")
    return json.loads(process.stdout)


def tell(report: dict, read: dict[str, str]) -> tuple[str, bool]:
    """What a report says, and whether it holds a vulnerability that is not in `read`."""
    lines, unread = [], False
    packages = report["dependencies"]
    for package in packages:
        for hole in package.get("vulns", []):
            reason = next(
                (read[name] for name in (hole["id"], *hole.get("aliases", [])) if name in read), ""
            )
            unread = unread or not reason
            better = ", ".join(hole.get("fix_versions", [])) or "no version yet"
            lines.append(
                f"{package['name']} {package['version']}: {hole['id']}, "
                f"mended in {better}. {reason}".strip()
            )
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    lines.append(
        f"{len(packages) - len(unknown)} of {len(packages)} packages audited, "
        f"{len(lines)} vulnerabilities."
    )
    if unknown:
        lines.append(
            f"Nothing is known of {len(unknown)}, as PyPI did not answer for them: "
            f"{', '.join(unknown[:5])} ..."
        )
    return "\n".join(lines), unread


if __name__ == "__main__":
    text, unread = tell(ask(CONSTRAINTS), READ)
    print(text)
    sys.exit(
        "Read these: update constraints.txt, or say in .ci/audit.py why it does not matter."
        if unread
        else 0
    )
