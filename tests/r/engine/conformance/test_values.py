"""What comes back as Python's, and what stays R's."""

import pytest

from cloudexec.errors import RConversionError
from cloudexec.r import RObject

pytestmark = pytest.mark.r


@pytest.mark.parametrize(
    ("code", "r_class"),
    [
        ("lm(mpg ~ wt, mtcars)", ("lm",)),
        ("function() 1", ("function",)),
        ("quote(a + b)", ("call",)),
        ("quote(a)", ("name",)),
        ("y ~ x", ("formula",)),
        ("new.env()", ("environment",)),
        ("as.POSIXlt('2024-01-01', tz = 'UTC')", ("POSIXlt", "POSIXt")),
        ("table(c(1, 1, 2))", ("table",)),
        ("structure(list(1, 2), dim = 1:2)", ("matrix", "array")),
        ("list(a = 1, 2)", ("list",)),
        ("methods::getClass('numeric')", ("classRepresentation",)),
        ("data.frame(m = I(matrix(1:4, 2)))", ("data.frame",)),
    ],
)
def test_what_is_no_plain_data_stays_an_object_of_rs(ask, code, r_class):
    value = ask(f"function() {{ {code} }}").value if not code.startswith("function") else ask(f"list({code})").value[0]
    assert isinstance(value, RObject)
    assert value.r_class == r_class
    assert value.r_size > 0
    assert "R version" in value.session


def test_an_object_shows_how_r_prints_it(ask):
    assert "37.285" in ask("lm(mpg ~ wt, mtcars)").value.head


def test_the_elements_of_lists_are_looked_at_one_by_one(ask):
    found = ask("list(score = 1.5, deep = list(list(fit = lm(mpg ~ wt, mtcars), n = 2L)), none = NULL)").value
    assert found["score"] == 1.5
    assert found["none"] is None
    assert found["deep"][0]["n"] == 2
    assert found["deep"][0]["fit"].r_class == ("lm",)


@pytest.mark.parametrize("make", ["tibble::tibble", "data.table::data.table", "data.frame"])
def test_every_kind_of_data_frame_is_a_frame(ask, make):
    frame = ask(f"{make}(a = 1:3, b = c('x', NA, 'z'), f = factor(c('u', 'v', 'u')))").value
    assert list(frame.columns) == ["a", "b", "f"]
    assert frame["b"].isna().tolist() == [False, True, False]
    assert frame["f"].tolist() == ["u", "v", "u"]


def test_a_grouped_frame_is_a_frame(ask):
    classes = "c('grouped_df', 'tbl_df', 'tbl', 'data.frame')"
    assert ask(f"structure(data.frame(a = 1:2), groups = data.frame(g = 1), class = {classes})").value[
        "a"
    ].tolist() == [1, 2]


def test_a_list_column_may_hold_objects_of_rs(ask):
    frame = ask("d <- data.frame(a = 1:2); d$fit <- list(lm(mpg ~ wt, mtcars), 'none'); d").value
    assert frame["fit"][0].r_class == ("lm",)
    assert frame["fit"][1] == "none"


def test_attributes_that_say_nothing_to_python_are_left(ask):
    assert ask("scale(matrix(c(1, 3), 2))").value.shape == (2, 1)


def test_text_in_latin1_arrives_as_it_is_meant(ask):
    assert ask(r"x <- 'caf\xe9'; Encoding(x) <- 'latin1'; list(x, factor(x))").value[0] == "café"


def test_an_object_goes_on_to_the_next_call(ask):
    fit = ask("lm(mpg ~ wt, mtcars)").value
    slope = ask("function(models) unname(coef(models$first)[2])", {"first": fit}).value
    assert slope == pytest.approx(-5.344, abs=0.001)


def test_returns_says_what_comes_back(ask):
    assert ask("1 + 1", returns="none").value is None
    kept = ask("1 + 1", returns="object").value
    assert isinstance(kept, RObject)
    assert kept.to_python() == 2.0
    with pytest.raises(RConversionError, match="class lm") as caught:
        ask("list(a = 1, b = list(lm(mpg ~ wt, mtcars)))", returns="plain")
    assert caught.value.path == "value['b'][0]"


@pytest.mark.parametrize("code", ["xml2::read_xml('<a/>')", "file(tempfile())"])
def test_what_would_be_dead_elsewhere_is_refused_by_its_place(ask, code):
    with pytest.raises(RConversionError, match="external pointer or a connection") as caught:
        ask(f"list(ok = 1, x = list({code}))")
    assert caught.value.path == "value['x'][0]"


def test_an_argument_that_came_here_dead_is_named(ask):
    stream = ask("serialize(xml2::read_xml('<a/>'), NULL, version = 2)").value
    with pytest.raises(RConversionError, match="dead") as caught:
        ask("function(k, doc) xml2::xml_name(doc)", 1, doc=RObject(data=stream))
    assert caught.value.path == "kwargs['doc']"


def test_an_argument_that_does_not_convert_is_named(ask):
    with pytest.raises(RConversionError) as caught:
        ask("function(x) x", {"a": [{1, 2}]})
    assert caught.value.path == "args[0]['a'][0]"


def test_a_table_of_data_tables_inside_an_object_is_no_dead_pointer(ask):
    value = ask("structure(list(d = data.table::data.table(a = 1)), class = 'holder')").value
    assert value.r_class == ("holder",)


def test_a_large_result_arrives_whole(ask):
    value = ask("x <- raw(1e8); x[1e8] <- as.raw(7); x").value
    assert len(value) == 100_000_000
    assert value[-1] == 7
