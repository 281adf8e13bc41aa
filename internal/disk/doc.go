// Package disk watches the file systems that a run writes to: how much space is left
// ([Space]), and whether everything written has reached the disk ([Flusher]).
package disk
