//go:build race

package unpack

func init() { raced = true }
