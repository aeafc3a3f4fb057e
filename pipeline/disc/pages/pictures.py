"""The small pictures of a disc, one for each series."""

from collections.abc import Sequence

from pipeline.disc.model import EXPLICIT, SeriesUIDs
from pipeline.disc.objects.arrangement import PatientNode, series_of
from pipeline.disc.pages.thumbnails import NoPicture, ThumbnailTask, thumbnail
from pipeline.processes.limits import to_encode
from pipeline.processes.process_pool import ProcessPool


def pictures(patients: Sequence[PatientNode], pool: ProcessPool) -> dict[SeriesUIDs, bytes]:
    """Return a picture of the middle object of every series that shows any; the page notes missing ones.

    Compressed pixels are decoded in the pool's processes, so that no codec can end this one.
    """
    found: dict[SeriesUIDs, bytes] = {}
    compressed: dict[SeriesUIDs, ThumbnailTask] = {}
    for series in series_of(patients):
        middle = series.objects[len(series.objects) // 2].entry
        uids, task = (middle.key.study_instance_uid, middle.key.series_instance_uid), ThumbnailTask(middle.path)
        if middle.kind != "IMAGE":
            continue
        if middle.transfer_syntax_uid != EXPLICIT:
            compressed[uids] = task
        elif picture := _native(task):
            found[uids] = picture
    outcomes = pool.each(thumbnail, compressed.values(), lambda task: to_encode(task.path))
    decoded = zip(compressed, outcomes, strict=True)
    return found | {uids: picture for uids, (_, picture) in decoded if isinstance(picture, bytes)}


def _native(task: ThumbnailTask) -> bytes | None:
    try:
        return thumbnail(task)
    except NoPicture:
        return None
