"""TensorRT: an engine on the GPU it was built for, by the library that built it, without torch."""

from __future__ import annotations

from rtbench.errors import RuntimeUnavailable
from rtbench.export import tensorrt_library
from rtbench.records.model import Artifact, EngineBuild, Model
from rtbench.runtimes import Session


def ready(artifact: Artifact, device: str) -> None:
    """Import the library that built the engine, and pycuda."""
    _require_library(_build_of(artifact))
    import rtbench.runtimes.engine  # noqa: F401


def _build_of(artifact: Artifact) -> EngineBuild:
    if artifact.build is None:
        raise RuntimeUnavailable(f"{artifact.path} does not say what it was built for", "build it with rtbench export")
    return artifact.build


def open_session(
    artifact: Artifact, model: Model, device: str, threads: int, trust_code: bool, variants: tuple[str, ...] = ()
) -> Session:
    build = _build_of(artifact)
    _require_library(build)
    from rtbench.runtimes.cuda import Device
    from rtbench.runtimes.engine import EngineSession

    gpu = Device()
    try:
        if gpu.compute_capability != build.compute_capability:
            raise RuntimeUnavailable(
                f"the engine was built for compute capability {build.compute_capability}, {gpu.name} has"
                f" {gpu.compute_capability}",
                "export it again here without --recipe, or with one for this GPU",
            )
        return EngineSession(artifact.path, build, gpu)
    except BaseException:
        gpu.close()
        raise


def _require_library(build: EngineBuild) -> None:
    here = tensorrt_library.installed()
    name, version = build.library, build.library_version
    if name not in here:
        raise RuntimeUnavailable(
            f"the engine was built by {name} {version}, which is not installed",
            f"pip install '{name.replace('_', '-')}=={version}', or export it again here",
        )
    found = tensorrt_library.use(name).__version__
    if found != version:
        raise RuntimeUnavailable(
            f"the engine was built by {name} {version}, and {found} is installed: they load only their own",
            "export it again here",
        )


def probe(device: str) -> str:
    here = tensorrt_library.installed()
    if not here:
        raise RuntimeUnavailable("TensorRT is not installed", " or ".join(tensorrt_library.INSTALL.values()))
    libraries = ", ".join(f"{name} {tensorrt_library.use(name).__version__}" for name in here)
    try:
        from rtbench.runtimes.cuda import Device

        gpu = Device()
    except RuntimeUnavailable as error:
        builds = "; tensorrt_rtx builds engines here all the same" if "tensorrt_rtx" in here else ""
        raise RuntimeUnavailable(f"{libraries}, but {error.message}{builds}", error.remedy) from error
    found = f"{libraries}, {gpu.name} of compute capability {gpu.compute_capability}"
    gpu.close()
    return found
