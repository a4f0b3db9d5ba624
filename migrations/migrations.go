// Package migrations holds the schema as SQL, embedded, so that a binary
// carries the schema that it was built against.
//
// Files are golang-migrate's: NNNNNN_name.up.sql and its .down.sql. Each up
// file is one transaction, except one that builds or drops an index
// CONCURRENTLY, which must be the only statement of its file. A statement ends
// with a semicolon at the end of a line, and no other line that isn't a comment
// ends with one. A file that has been released is never edited: a change is a
// new file, first expanding, a release later contracting, so that the version
// before keeps running beside this one.
package migrations

import "embed"

// Files holds every migration, at the root of the file system.
//
//go:embed *.sql
var Files embed.FS
