// Figures draws the pictures of the documents: each file with the ending seq
// becomes a file with the ending svg beside it. performance.svg is one that bench
// has drawn.
//
//	go run ./docs/figures
//
// A file is a sequence diagram, one step a line:
//
//	lanes A | B | C      who takes part, from left to right
//	A -> B: text         a message
//	A -x B: text         a message that is lost
//	A: text              what A does
//	! A: text            what happens to A
//	== text              what is durable from here on
//
// The pictures are drawn for light and for dark screens, and have a ground of
// their own, so that they can be read on any page.
package main
