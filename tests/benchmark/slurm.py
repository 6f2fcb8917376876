"""A real Slurm of one node, started by this user for the time of a test from Debian's packages slurm-wlm and munge."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

COMMANDS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'squeue', 'sinfo', 'scancel')
SBIN = os.pathsep.join(['/usr/sbin', '/sbin'])  # Where Debian puts daemons; a user's PATH may lack it.
# Slurm has to find a plugin for control groups that starts without systemd, though nothing here uses one. Which one
# does depends on its version and on the system.
CGROUP = ('CgroupPlugin=disabled', 'CgroupPlugin=cgroup/v1', 'CgroupPlugin=autodetect\nIgnoreSystemd=yes')
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
StateSaveLocation={folder}/state
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0
ReturnToService=2
MpiDefault=none
MailProg=/bin/true
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """The commands that are not installed."""
    return [name for name in COMMANDS if found(name) is None]


def found(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get('PATH', ''), SBIN]))


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(('127.0.0.1', 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def slurm(folder: Path) -> Iterator[str]:
    """Start munged, slurmctld and slurmd; yields the path for SLURM_CONF.

    Raises:
        RuntimeError: If they do not start, with the end of what they said.
    """
    for name in ('state', 'spool'):
        (folder / name).mkdir(parents=True)
    conf = folder / 'slurm.conf'
    user = pwd.getpwuid(os.getuid()).pw_name
    conf.write_text(CONF.format(host=socket.gethostname(), user=user, folder=folder, ports=free_ports(2)))
    (folder / 'munge.key').write_bytes(os.urandom(1024))
    (folder / 'munge.key').chmod(0o600)
    files = {'socket': 'munge.socket', 'key-file': 'munge.key', 'pid-file': 'munge.pid', 'log-file': 'munge.log'}
    files['seed-file'] = 'munge.seed'
    # --force: as root, and in a folder that others may write to.
    daemons = [start(folder, 'munged', '--force', '--foreground', *(f'--{k}={folder / v}' for k, v in files.items()))]
    try:
        wait(folder, daemons, lambda: (folder / 'munge.socket').exists())
        daemons.append(start(folder, 'slurmctld', '-D', '-f', str(conf)))
        for cgroup in CGROUP:
            (folder / 'cgroup.conf').write_text(cgroup + '\n')
            daemons.append(start(folder, 'slurmd', '-D', '-N', 'localhost', '-f', str(conf)))
            if wait(folder, daemons, lambda: state(conf) == 'idle'):
                break
            daemons.pop()
        else:
            raise RuntimeError(said(folder, 'slurmd'))
        yield str(conf)
        end_jobs(conf)
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def end_jobs(conf: Path, seconds: float = 30.0) -> None:
    """Cancel what is left, and wait until its processes have told the daemons, without which they would stay."""
    command = {name: found(name) or name for name in ('scancel', 'squeue')}
    options = {'env': environment(conf.parent), 'capture_output': True, 'text': True, 'check': False}
    subprocess.run([command['scancel'], f'--user={pwd.getpwuid(os.getuid()).pw_name}'], **options)
    patience = time.monotonic() + seconds
    while time.monotonic() < patience and subprocess.run([command['squeue'], '--noheader'], **options).stdout.strip():
        time.sleep(0.1)


def start(folder: Path, name: str, *arguments: str) -> subprocess.Popen:
    command = found(name)
    assert command is not None
    with open(folder / f'{name}.txt', 'ab') as log:
        return subprocess.Popen([command, *arguments], stdout=log, stderr=log, cwd=folder, env=environment(folder))


def environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([os.environ.get('PATH', ''), SBIN])
    return {**os.environ, 'SLURM_CONF': str(folder / 'slurm.conf'), 'PATH': path}


def state(conf: Path) -> str:
    """What the controller says of the node, '' while it says nothing."""
    command = [found('sinfo') or 'sinfo', '--noheader', '--format=%T']
    done = subprocess.run(
        command, env=environment(conf.parent), capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout.strip()


def wait(folder: Path, daemons: list[subprocess.Popen], ready: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether something is ready, False once the last daemon has ended.

    Raises:
        RuntimeError: If it takes too long, or another daemon has ended.
    """
    patience = time.monotonic() + seconds
    while not ready():
        if daemons[-1].poll() is not None and len(daemons) > 2:
            return False
        if time.monotonic() > patience or any(daemon.poll() is not None for daemon in daemons[:2]):
            raise RuntimeError('\n'.join(said(folder, name) for name in ('munged', 'slurmctld', 'slurmd')))
        time.sleep(0.1)
    return True


def said(folder: Path, name: str) -> str:
    log = folder / f'{name}.txt'
    return f'{name}: {log.read_text(errors="replace")[-1500:] if log.is_file() else "not started"}'
