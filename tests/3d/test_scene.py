"""The scene: cameras, renders, surfaces, files, and what a user may do wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pytorch3d", reason='pip install "fewstep[3d]"')

import av
import torch
import trimesh
from pydantic import ValidationError

from fewstep.engine import AssemblyError
from fewstep.errors import FewstepError
from fewstep.objectives import sds
from fewstep.processes import Grid, vp
from fewstep.protocol import Batch, Denoiser, Key, Phase, Site, Step
from fewstep_3d.cameras import Orbit, held_out_angles, ring, training_angles
from fewstep_3d.data import CameraSource, ViewSource
from fewstep_3d.field import RadianceGrid, camera_cond, surface, with_scene
from fewstep_3d.files import as_bytes, as_mesh, scene_of, write_scene
from fewstep_3d.mesh import BUNNY, load_mesh, render_mesh, true_views
from fewstep_3d.metrics import psnr, silhouette_overlap
from fewstep_3d.priors import ExactPrior, MisledPrior, PriorNetwork
from fewstep_3d.sds import recipe
from fewstep_3d.sds.config import SDSConfig


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    return true_views(BUNNY, training_angles()[:4], 16, Orbit(), tmp_path_factory.mktemp("views"))


def ball(side: int = 16) -> RadianceGrid:
    """A scene that is an opaque ball of radius 0.5, gray."""
    scene = RadianceGrid(side, size=16)
    axis = torch.linspace(-1, 1, side)
    distance = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    with torch.no_grad():
        scene.density.copy_((200 * (0.5 - distance)).unsqueeze(0))
        scene.color.zero_()
    return scene


def test_the_bunny_stands_in_the_middle_of_its_views(views: torch.Tensor) -> None:
    assert views.shape == (4, 3, 16, 16)
    assert float(views[:, :, 0, 0].min()) == 1.0, "the corner is white"
    assert float(views[:, :, 8, 8].min()) < 0.9, "the middle is not"


def test_views_are_kept_under_what_they_depend_on(tmp_path: Path) -> None:
    angles = training_angles()[:1]
    first = true_views(BUNNY, angles, 8, Orbit(), tmp_path)
    assert torch.equal(first, true_views(BUNNY, angles, 8, Orbit(), tmp_path))
    true_views(BUNNY, angles, 8, Orbit(distance=3.0), tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_a_mesh_and_a_grid_agree_on_where_the_camera_stands(tmp_path: Path) -> None:
    """An off-center marker lands on the same pixels through both renderers."""
    marker = trimesh.creation.icosphere(radius=0.25).apply_translation([0.5, 0.3, 0.2])
    anchor = trimesh.creation.box([0.01, 0.01, 0.01]).apply_translation([-0.9, -0.9, -0.9])
    both = trimesh.util.concatenate([marker, anchor])
    both.export(tmp_path / "marker.ply")
    mesh = load_mesh(tmp_path / "marker.ply")
    center = mesh.verts_packed()[: len(marker.vertices)].mean(0)
    radius = (mesh.verts_packed()[: len(marker.vertices)] - center).norm(dim=1).mean()
    scene = RadianceGrid(48, size=32)
    axis = torch.linspace(-1, 1, 48)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    distance = (torch.stack([x, y, z], -1) - center).norm(dim=-1)
    with torch.no_grad():
        scene.density.copy_((200 * (radius - distance)).unsqueeze(0))
        scene.color.fill_(-6.0)
    angles = torch.tensor([[0.0, 0.0], [75.0, 30.0], [200.0, 10.0]])
    overlap = silhouette_overlap(scene.render(angles), render_mesh(mesh, angles, 32, Orbit()))
    assert float(overlap.min()) > 0.6


def test_rendering_has_a_gradient_to_density_and_color() -> None:
    scene = RadianceGrid(8, size=8)
    scene.render(ring(2, 10.0)).square().sum().backward()
    assert float(scene.density.grad.abs().sum()) > 0
    assert float(scene.color.grad.abs().sum()) > 0


def test_an_empty_scene_is_white() -> None:
    scene = RadianceGrid(8, size=8)
    with torch.no_grad():
        scene.density.fill_(-50.0)
    assert torch.allclose(scene.render(ring(1, 0.0)), torch.ones(1, 3, 8, 8))


def test_the_surface_of_a_ball_is_a_sphere_of_its_radius() -> None:
    vertices, faces, color = surface(ball(32).values(), level=1.0)
    assert abs(float(vertices.norm(dim=1).mean()) - 0.5) < 0.05
    assert faces.shape[1] == 3
    assert torch.allclose(color, torch.full_like(color, 0.5), atol=0.05)


def test_a_scene_survives_its_grid() -> None:
    scene = ball()
    again = scene_of(scene.values().detach(), scene.orbit)
    assert torch.allclose(again.values(), scene.values(), atol=1e-4)


def test_the_exact_prior_answers_the_gaussian_formula(views: torch.Tensor) -> None:
    process = vp()
    prior = Denoiser(ExactPrior(process, views, deviation=0.1), process, "x0")
    t = torch.full((2,), 0.5, dtype=torch.float64)
    cond = camera_cond(training_angles()[:2], torch.tensor([0, 1]))
    at_mean = process.corrupt(views[:2], torch.zeros_like(views[:2]), t)
    assert torch.allclose(prior(at_mean, t, cond).x0, views[:2], atol=1e-5)


def test_the_expected_sds_gradient_is_the_weighted_distance_to_the_view(views: torch.Tensor) -> None:
    """For a Gaussian prior the noise estimate is off by sigma alpha (x - m) / (alpha^2 r^2 + sigma^2) on average."""
    process, r = vp(), 0.1
    prior = Denoiser(ExactPrior(process, views.double(), r), process, "x0")
    time, rows = 0.5, 2000
    t = torch.full((1,), time, dtype=torch.float64)
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    shown = (views[:1] + 0.2).double()

    class Still(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = torch.nn.Parameter(shown.clone())

        def generate(self, batch: Batch, step: Step, **_: object) -> object:
            from fewstep.protocol import Sample

            return Sample(self.x.expand(rows, -1, -1, -1), batch.cond)

        sample = generate

    student = Still()
    cond = camera_cond(training_angles()[:1].expand(rows, 2), torch.zeros(rows, dtype=torch.int64))
    batch = Batch(like=shown.expand(rows, -1, -1, -1), cond=cond)
    loss = sds(Grid((time,))).loss(
        Phase("student", ("student",)), {"teacher": prior, "student": student}, batch, Step(0, 1, Key(0))
    )
    loss.total.backward()
    # w = sigma^2 on the noise estimate; mean over pixels.
    expected = sigma**2 * sigma * alpha * 0.2 / ((alpha * r) ** 2 + sigma**2) / shown.numel()
    assert float(student.x.grad.mean()) == pytest.approx(expected, rel=0.02)


def test_a_misled_prior_sees_the_neighbors_camera(views: torch.Tensor) -> None:
    process = vp()
    prior = Denoiser(ExactPrior(process, views), process, "x0")
    cond = camera_cond(training_angles()[:2], torch.tensor([0, 1]))
    swapped = camera_cond(training_angles()[:2].flip(0), torch.tensor([1, 0]))
    xt, t = torch.zeros(2, 3, 16, 16), torch.full((2,), 0.5, dtype=torch.float64)
    assert torch.equal(MisledPrior(prior)(xt, t, cond).x0, prior(xt, t, swapped).x0)


def test_the_prior_network_depends_on_its_camera() -> None:
    torch.manual_seed(0)
    network = PriorNetwork(8)
    torch.nn.init.normal_(network.last.weight)
    x, t = torch.zeros(2, 3, 16, 16), torch.full((2,), 500.0)
    out = network(x, t, camera_cond(torch.tensor([[0.0, 0.0], [90.0, 0.0]])))
    assert not torch.allclose(out[0], out[1])


def test_sources_are_pure_functions_of_their_counter(views: torch.Tensor) -> None:
    source = ViewSource(views, training_angles()[:4], 8)
    assert torch.equal(source.batch(3, Key(0)).x, source.batch(3, Key(0)).x)
    cameras = CameraSource(4, 16)
    assert not torch.equal(
        cameras.batch(0, Key(0)).cond.data["angles"], cameras.batch(1, Key(0)).cond.data["angles"]
    )


def test_psnr_of_the_truth_is_the_largest() -> None:
    truth = torch.rand(3, 3, 8, 8) * 2 - 1
    assert float(psnr(truth, truth).min()) == 100.0
    assert float(psnr(truth + 0.2, truth).max()) < 21


def test_native_files_open_again(tmp_path: Path) -> None:
    scene = ball()
    batch = Batch(torch.zeros(2, 3, 16, 16), cond=camera_cond(ring(2, 10.0)))
    images = scene.sample(batch, Step.inference(Key(0))).x.detach()
    files = {f.name: f for f in write_scene(with_scene(images, scene), batch, tmp_path, scene.orbit)}
    for name in ("scene.glb", "scene.ply"):
        again = trimesh.load(files[name], force="mesh")
        assert len(again.faces) == len(as_mesh(scene.values()).faces)
    with av.open(str(files["turntable.mp4"])) as film:
        assert sum(1 for _ in film.decode(video=0)) == 48
    assert as_bytes(images[0]).shape == (16, 16, 3)


def test_held_out_views_are_no_training_views() -> None:
    gap = (held_out_angles()[:, None, 0] - training_angles()[None, :, 0]).abs().min()
    assert float(gap) > 1


def test_a_missing_mesh_says_so(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match="no mesh at"):
        load_mesh(tmp_path / "nothing.ply")


def test_a_file_that_is_no_mesh_says_so(tmp_path: Path) -> None:
    (tmp_path / "broken.ply").write_text("not a mesh")
    with pytest.raises(FewstepError, match="cannot be read as a mesh"):
        load_mesh(tmp_path / "broken.ply")


@pytest.mark.parametrize("name", ["size", "side", "cameras", "steps", "teacher_steps"])
def test_zero_and_negative_sizes_are_refused(name: str) -> None:
    for value in (0, -1):
        with pytest.raises(ValidationError, match=name):
            SDSConfig(**{name: value})


def test_an_objective_of_step_times_is_refused_for_a_scene(tmp_path: Path) -> None:
    plan = recipe.build(SDSConfig.model_validate({"objective": "progressive"}), Site(Key(0), tmp_path))
    scene = next(stage for stage in plan.stages if stage.name == "scene")
    with pytest.raises(AssemblyError, match="'student' must be a Denoiser"):
        scene.build({"teacher": Denoiser(PriorNetwork(8), vp(), "v")})
