# Settings as JSON, for the one message that is not RDS or plain text.
# Called by: register.R, dopar.R.

to_json <- function(x, name = "settings") {
  if (is.null(x)) return("null")
  if (!is.null(names(x)) && (is.list(x) || is.atomic(x))) {
    members <- mapply(
      function(value, key) paste0(json_string(key), ":", to_json(value, paste0(name, "$", key))),
      as.list(x), names(x)
    )
    return(paste0("{", paste(members, collapse = ","), "}"))
  }
  if (is.list(x) || (is.atomic(x) && (length(x) != 1L || inherits(x, "AsIs")))) {
    return(paste0("[", paste(vapply(unclass(x), to_json, "", name = name), collapse = ","), "]"))
  }
  if (is.factor(x)) x <- as.character(x)
  if (!is.atomic(x) || is.na(x) || (is.numeric(x) && !is.finite(x))) {
    stop(sprintf("%s cannot be a setting: give numbers, text, TRUE, FALSE, or lists of them", name), call. = FALSE)
  }
  if (is.logical(x)) tolower(as.character(x)) else if (is.numeric(x)) json_number(x) else json_string(as.character(x))
}

json_number <- function(x) {
  text <- sprintf("%.15g", x)
  if (as.numeric(text) == x) text else sprintf("%.17g", x)
}

json_string <- function(x) {
  codes <- utf8ToInt(enc2utf8(x))
  special <- codes < 32L | codes == 34L | codes == 92L
  pieces <- ifelse(special, sprintf("\\u%04x", codes), intToUtf8(codes, multiple = TRUE))
  paste0("\"", paste(pieces, collapse = ""), "\"")
}
