// Package limit keeps one client from taking what others need: requests per
// second ([Buckets]), attempts that fail ([Failures]), and places where few can
// be at a time ([Places]).
//
// All counts are those of one process, and are lost with it. So a client of n
// processes may have n times as much.
package limit
