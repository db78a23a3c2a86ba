"""What kind of samples a file or folder holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from nettrim_cli.data.advice import IMAGES
from nettrim_cli.errors import BadInput, MissingInput
from nettrim_cli.files.formats import identify, where_missing
from nettrim_cli.graph.model import Model
from nettrim_cli.preparation.photographs import image_source
from nettrim_cli.preparation.sound import SoundSource
from nettrim_cli.preparation.source import FileSource, SampleSource, files_below
from nettrim_cli.preparation.stored import ArraySource, TensorSource, row_files
from nettrim_cli.preparation.tables import TableSource
from nettrim_cli.preparation.text import TextSource, part_of
from nettrim_cli.settings import DataSettings

Opener = Callable[[Path, Sequence[Path], Model, DataSettings], SampleSource]
TABLES = (".csv", ".tsv")


def table_or_text(
    path: Path, files: Sequence[Path], model: Model, settings: DataSettings
) -> SampleSource:
    """Samples of a text file: by a tokenizer for models that take tokens, else as a table.

    Parameters
    ----------
    path, files
        The file, and all files of the source.
    model
        The model that is to read the samples.
    settings
        How they are made.
    """
    takes_tokens = any(part_of(tensor.name) == "ids" for tensor in model.inputs)
    is_text = takes_tokens and path.suffix.lower() not in TABLES
    opener = TextSource if settings.tokenizer or is_text else TableSource
    return opener(path, files, model, settings)


OF_FILES: dict[str, Opener] = {
    **dict.fromkeys(IMAGES, image_source),
    ".wav": SoundSource,
    ".npy": row_files,
    ".txt": TextSource,
    ".pb": TensorSource,
}
"""What makes samples of the files of a folder, by their suffix."""
OF_KINDS: dict[str, Opener] = {
    "image": image_source,
    "sound": SoundSource,
    "hdf5": ArraySource,
    "npz": ArraySource,
    "npy": ArraySource,
    "text": table_or_text,
}
"""What makes samples of a single file, by the key of its format."""
OF_NAMES: dict[str, Opener] = {
    **OF_FILES,
    ".npy": ArraySource,
    **dict.fromkeys((".txt", *TABLES), table_or_text),
}
"""The same by its suffix, where its content tells nothing."""
MADE_OF = (
    "images, .wav, .npy and .txt files in folders, tables (.csv), .npz, .npy and .h5 files, and "
    "ONNX's test_data_set folders"
)


def open_source(path: Path, model: Model, settings: DataSettings) -> SampleSource:
    """The samples that can be made of a file or folder.

    Raises
    ------
    MissingInput
        There is no such file or folder, or it cannot be read.
    BadInput
        It holds no samples, or does not fit the model.
    """
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except ValueError as error:
        raise MissingInput(f"{path!r} is no path ({error}).") from error
    if is_folder:
        return _of_folder(path, model, settings)
    if not is_file:
        raise MissingInput(
            f"{path} cannot be found: name a file, or a folder of files ({where_missing(path)})."
        )
    kind = identify(path)
    opener = OF_KINDS.get(kind.key if kind else "") or OF_NAMES.get(path.suffix.lower())
    if opener is None:
        description = kind.name if kind else "of no known format"
        raise BadInput(f"{path} is {description}; samples are made of {MADE_OF}.")
    return opener(path, [path], model, settings)


def _of_folder(folder: Path, model: Model, settings: DataSettings) -> SampleSource:
    files = files_below(folder)
    openers = [OF_FILES.get(path.suffix.lower()) for path in files]
    kinds = Counter(opener for opener in openers if opener is not None)
    if not kinds:
        raise BadInput(f"{folder}: no file in it is known; samples are made of {MADE_OF}.")
    opener, count = kinds.most_common(1)[0]
    chosen = [
        path for path, file_opener in zip(files, openers, strict=True) if file_opener is opener
    ]
    source = opener(folder, chosen, model, settings)
    if count < len(files) and isinstance(source, FileSource):
        source.notes.append(f"{len(files) - count:,} other files of the folder were left out")
    return source
