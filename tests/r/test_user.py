"""What users of R do first and what engines alone do not show: models that live on, files of R's own, nested frames."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cloudexec import LocalExecutor, R, RObject
from cloudexec.errors import RConversionError, SettingsError

pytestmark = pytest.mark.r


# --- models with pointers in them ---------------------------------------------------------------------


def test_a_mixed_model_of_lme4_goes_on_to_the_next_call() -> None:
    """Its pointers die on the way; lme4 makes them anew."""
    fit = R("lmer(Reaction ~ Days + (1 | Subject), sleepstudy)", packages=["lme4"])
    again = R("function(models) AIC(refit(models$first, simulate(models$first, seed = 1)[[1]]))", packages=["lme4"])
    with LocalExecutor(max_workers=1) as executor:
        model = executor.submit(fit).result()
        assert model.r_class == ("lmerMod",)
        assert executor.submit(again, {"first": model}).result() == pytest.approx(1782.609397)  # as in one R


def test_a_reference_object_without_pointers_of_its_own_is_sent() -> None:
    counter = R("Counter <- setRefClass('Counter', fields = list(n = 'numeric')); Counter$new(n = 2)")()
    assert R("function(counter) counter$n")(counter) == 2.0


def test_whoever_asks_for_the_object_gets_it_with_its_dead_pointer() -> None:
    with pytest.raises(RConversionError, match='returns = "object"'):
        R("xml2::read_xml('<a/>')")()
    document = R("xml2::read_xml('<a/>')", returns="object")()
    assert document.r_class == ("xml_document", "xml_node")
    with pytest.raises(RConversionError, match="dead") as caught:
        R("function(x) xml2::xml_name(x)")(document)
    assert caught.value.path == "args[0]"


# --- files that R wrote ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What R's saveRDS writes if nothing is asked of it, and other things that it writes."""
    folder = tmp_path_factory.mktemp("saved")
    code = f"""setwd('{folder}')
    x <- c(b = 1, a = 2)
    saveRDS(list(
      up = 1:10, down = 3:1, one = 1:1, none = seq_len(0), real = 1:5 + 0, half = 0.5 + 0:3,
      text = as.character(c(1:3, NA)), ids = as.character(c(1, 1e5, 123456, -5, -1e5, NA, 0, 1e14, 1e5 + 1, 1e4)),
      sorted = sort(c(3.5, 1)), letters = sort(letters), named = sort(x), factor = factor(c('b', 'a')),
      matrix = matrix(1:4, 2), day = as.Date('2024-01-01') + 0:2,
      frame = data.frame(x = sort(c(2.5, 1)), y = as.character(2:3))), 'plain.rds')
    saveRDS(1:3, 'text.rds', ascii = TRUE)
    saveRDS(as.character(c(1.5, 2)), 'waiting.rds')
    save(x, file = 'several.RData')"""
    subprocess.run(["Rscript", "--vanilla", "-e", code], check=True, timeout=30)
    return folder


def test_what_saverds_writes_by_default_becomes_pythons_as_if_a_call_had_returned_it(saved: Path) -> None:
    kept = RObject.load(saved / "plain.rds")
    value, returned = kept.to_python(), R("function(x) x")(kept)
    assert value["ids"].tolist() == ["1", "1e+05", "123456", "-5", "-1e+05", None, "0", "1e+14", "100001", "10000"]
    assert {name: repr(each) for name, each in value.items()} == {name: repr(each) for name, each in returned.items()}


@pytest.mark.parametrize(
    ("file", "words"),
    [
        pytest.param("text.rds", "ascii = FALSE", id="format of text"),
        pytest.param("several.RData", "saveRDS", id="several objects"),
    ],
)
def test_a_file_of_another_format_is_told_from_one_that_is_damaged(saved: Path, file: str, words: str) -> None:
    with pytest.raises(RConversionError) as caught:
        RObject.load(saved / file)
    assert words in str(caught.value)


def test_text_that_r_has_not_made_yet_says_how_to_write_it(saved: Path) -> None:
    with pytest.raises(RConversionError, match="version = 2"):
        RObject.load(saved / "waiting.rds").to_python()


@pytest.mark.parametrize("compress", ["gzip", "bzip2", "xz"])
def test_a_file_that_was_cut_is_damaged(tmp_path: Path, compress: str) -> None:
    path = tmp_path / "cut.rds"
    code = f"saveRDS(mtcars, '{path}', compress = '{compress}')"
    subprocess.run(["Rscript", "--vanilla", "-e", code], check=True, timeout=30)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RConversionError, match="damaged"):
        RObject.load(path)


def test_a_sequence_that_would_fill_the_memory_is_refused(saved: Path) -> None:
    code = f"saveRDS(1:2000000000, '{saved}/long.rds')"
    subprocess.run(["Rscript", "--vanilla", "-e", code], check=True, timeout=30)
    assert len(gzip.decompress((saved / "long.rds").read_bytes())) < 300
    with pytest.raises(RConversionError, match="2e\\+09 numbers"):
        RObject.load(saved / "long.rds").to_python()


# --- frames that hold more than vectors -------------------------------------------------------------------


def test_a_list_column_goes_back_to_r_as_it_came() -> None:
    made = R("d <- data.frame(k = 1:3); d$x <- list(1, NULL, c('a', 'b')); d")()
    same = R("function(d) identical(d$x, list(1, NULL, c('a', 'b')))")
    assert same(made) is True


def test_a_column_of_models_is_an_argument() -> None:
    models = R(
        "d <- data.frame(cyl = c(4, 6)); d$fit <- lapply(d$cyl, function(n) lm(mpg ~ wt, mtcars[mtcars$cyl == n, ])); d"
    )()
    slopes = R("function(d) sapply(d$fit, function(fit) coef(fit)[['wt']])")(models)
    assert slopes.round(2).tolist() == [-5.65, -2.78]


def test_a_list_column_names_the_place_of_what_it_refuses() -> None:
    with pytest.raises(RConversionError) as caught:
        R("function(d) d")(pd.DataFrame({"x": [[1], [2, {3}]]}))
    assert caught.value.path == "args[0]['x'][1][1]"


# --- Ctrl-C in a terminal or a notebook reaches R, too ---------------------------------------------------------

_INTERRUPTED = """
from cloudexec import R
try:
    R("cat('running'); Sys.sleep(60)")()
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(R("1 + 1")(), R("2 + 2")(), flush=True)
"""


def test_the_calls_after_ctrl_c_are_unharmed() -> None:
    """The resident R hears of it while it waits; no forked child may inherit that."""
    command = [sys.executable, "-u", "-c", _INTERRUPTED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as python:
        assert python.stdout is not None
        assert python.stdout.read(len("running")) == "running"
        os.killpg(python.pid, signal.SIGINT)
        rest, _ = python.communicate(timeout=30)
    assert rest.split() == ["interrupted", "2.0", "4.0"]
    assert python.returncode == 0


# --- words for slips -------------------------------------------------------------------------------------


def test_code_with_a_nul_and_a_file_without_code_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="NUL"):
        R("1\0+ 1")
    (tmp_path / "empty.R").write_text("\n")
    with pytest.raises(SettingsError, match=r"empty\.R"):
        R.file(tmp_path / "empty.R")


def test_packages_in_the_place_of_the_executor_are_told_apart() -> None:
    with pytest.raises(SettingsError, match="no executor"):
        R.check(["stats"])  # type: ignore[arg-type]  # the slip
