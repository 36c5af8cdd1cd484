# What this session and its process say to each other: a frame is a kind and parts.
# Called by: session.R.   Mirror: frames.py of cloudexec.adapters.foreach, where the layout is drawn.

write_frame <- function(connection, kind, parts) {
  parts <- lapply(parts, as_bytes)
  head <- c(
    charToRaw(kind),
    writeBin(length(parts), raw(), size = 4L, endian = "big"),
    writeBin(as.double(lengths(parts)), raw(), endian = "big")
  )
  small <- vapply(parts, length, 0) < 65536
  if (all(small)) {
    write_bytes(connection, c(head, unlist(parts, use.names = FALSE)))
  } else {
    write_bytes(connection, head)
    for (part in parts) write_bytes(connection, part)
  }
}

read_frame <- function(connection) {
  start <- read_bytes(connection, 8)
  count <- readBin(start[5:8], "integer", endian = "big")
  sizes <- readBin(read_bytes(connection, 8 * count), "double", count, endian = "big")
  list(kind = rawToChar(start[1:4]), parts = lapply(sizes, function(size) read_bytes(connection, size)))
}

as_bytes <- function(part) if (is.raw(part)) part else charToRaw(enc2utf8(as.character(part)))

as_text <- function(bytes) {
  text <- rawToChar(bytes)
  Encoding(text) <- "UTF-8"
  text
}

PIECE <- 2^29 # one call of readBin or writeBin takes less than 2 GiB

write_bytes <- function(connection, bytes) {
  done <- 0
  while (done < length(bytes)) {
    n <- min(PIECE, length(bytes) - done)
    writeBin(if (n == length(bytes)) bytes else bytes[done + seq_len(n)], connection)
    done <- done + n
  }
}

read_bytes <- function(connection, size) {
  if (size == 0) return(raw())
  if (size <= PIECE) return(read_piece(connection, size))
  pieces <- list()
  while (size > 0) {
    pieces[[length(pieces) + 1L]] <- read_piece(connection, min(PIECE, size))
    size <- size - length(pieces[[length(pieces)]])
  }
  do.call(c, pieces)
}

read_piece <- function(connection, size) {
  bytes <- readBin(connection, "raw", size)
  if (length(bytes) < size) stop("the connection ended")
  bytes
}
