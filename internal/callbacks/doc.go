// Package callbacks knows what a callback is: which URL one may have.
package callbacks
