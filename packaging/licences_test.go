package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// TestIdentify knows licences, and refuses those that are not allowed.
func TestIdentify(t *testing.T) {
	apache, err := os.ReadFile("../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := identify(string(apache)); err != nil || !slices.Equal(ids, []string{"Apache-2.0"}) {
		t.Errorf("the Apache License is %q, %v", ids, err)
	}
	if ids, err := identify("This product has parts of others."); err != nil || ids != nil {
		t.Errorf("a notice is %q, %v", ids, err)
	}
	gpl := "This program is free software; you can redistribute it and/or modify it under the terms of the GNU General Public License as published by the Free Software Foundation; either version 2 of the License, or (at your option) any later version."
	if ids, err := identify(gpl); err == nil {
		t.Errorf("the GPL is %q, and is allowed", ids)
	}
}

// TestLicenceIsMissing fails for a module without a licence at its root, and takes those of
// directories above a package.
func TestLicenceIsMissing(t *testing.T) {
	apache, err := os.ReadFile("../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	deep := filepath.Join(dir, "a/b")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	check := func() (*terms, error) {
		l, m := make(licences), module{"example.com/m", "v1.0.0", dir}
		if err := l.add(linkedPackage{Dir: deep, Module: &m}); err != nil {
			t.Fatal(err)
		}
		return l[m], l[m].identify()
	}
	if _, err := check(); err == nil {
		t.Error("no licence is no error")
	}
	if err := os.WriteFile(filepath.Join(dir, "a/COPYING"), apache, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := check(); err == nil {
		t.Error("no licence of the module is no error")
	}
	if err := os.WriteFile(filepath.Join(dir, "LICENSE.md"), apache, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := check()
	if err != nil || len(got.texts) != 2 || got.texts["a/COPYING"] == "" || !regexp.MustCompile(`(?s)^\s*Apache License.*limitations`).MatchString(got.texts["LICENSE.md"]) {
		t.Errorf("%v: %d texts", err, len(got.texts))
	}
}
