package image

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/fault"
)

// with is a config of two layers with one more member.
func configWith(member string) []byte {
	_, diffIDs := configOf(2)
	return fmt.Appendf(nil, `{"rootfs":{"type":"layers","diff_ids":[%q,%q]},%s}`, diffIDs[0], diffIDs[1], member)
}

func TestCheckDocker(t *testing.T) {
	many, _ := configOf(MaxLayers + 1)
	most, _ := configOf(MaxLayers)
	small := func(config []byte) []byte { return []byte(strings.Replace(string(config), `"Linux"`, `"linux"`, 1)) }
	long := []byte(`{"rootfs":{"diff_ids":["sha512:` + hex128 + `"]}}`)
	for _, tc := range []struct {
		name   string
		config []byte
		refuse string // a part of the error
		not29  bool   // Docker 29 cannot read it
	}{
		{"as many layers as may be", small(most), "", false},
		{"one more", small(many), "126 layers, Docker's overlay2 takes at most 125", false},
		{"no layers", []byte(`{"os":"linux","rootfs":{}}`), "", false},
		{"no rootfs", []byte(`{"os":"linux"}`), "no rootfs", false},
		{"a rootfs of null", []byte(`{"rootfs":null}`), "no rootfs", false},
		{"null", []byte(`null`), "no rootfs", false},
		{"no system", configWith(`"architecture":"amd64"`), "", false},
		{"linux", configWith(`"os":"linux"`), "", false},
		{"Linux", configWith(`"os":"Linux"`), `the system "Linux"`, false},
		{"Linux, by another spelling of the key", configWith(`"os":"linux","OS":"LINUX"`), `the system "LINUX"`, false},
		{"linux, after Linux", configWith(`"os":"Linux","os":"linux"`), "", false},
		{"a blank", configWith(`"os":" linux"`), `the system " linux"`, false},
		{"windows", configWith(`"os":"windows"`), `the system "windows"`, false},
		{"a layer by sha512", long, "sha512", false},
		{"a history of as many layers", configWith(`"history":[{},{"empty_layer":true},{"created_by":"x"}]`), "", false},
		{"a history of one more", configWith(`"history":[{},{},{"empty_layer":false}]`), "a history of 3 layers, and 2 layers", false},
		{"a history of null", configWith(`"history":null`), "", false},
		{"a history of nulls", configWith(`"history":[null,null,null]`), "a history of 3 layers", false},
		{"a history of text", configWith(`"history":"none"`), "cannot read", false},
		{"a date that is none", configWith(`"created":"yesterday"`), "cannot read", false},
		{"a date of null", configWith(`"created":null`), "", false},
		{"a date in the history", configWith(`"history":[{"created":1}]`), "cannot read", false},
		{"a config of null", configWith(`"config":null`), "", false},
		{"a config of text", configWith(`"config":"x"`), "cannot read", false},
		{"unknown members", configWith(`"config":{"x":{"y":[1]}},"z":1e999`), "", false},
		{"a number too large", configWith(`"Size":9223372036854775808`), "cannot read", false},
		{"a time too long", configWith(`"config":{"StopTimeout":1e30}`), "cannot read", false},
		{"commands as text", configWith(`"config":{"Cmd":"x","Entrypoint":"y","Shell":"z"}`), "", true},
		{"commands of null", configWith(`"config":{"Cmd":null,"Entrypoint":[],"Shell":["z"]}`), "", false},
		{"a command of numbers", configWith(`"config":{"Cmd":[1]}`), "cannot read", false},
		{"ports", configWith(`"config":{"ExposedPorts":{"80":{},"53/udp":{},"1/sctp":null}}`), "", false},
		{"ports that are none", configWith(`"config":{"ExposedPorts":{"http":{}}}`), "", true},
		{"ports in a list", configWith(`"config":{"ExposedPorts":["80"]}`), "cannot read", false},
		{"ports of the container that it was made from", configWith(`"container_config":{"ExposedPorts":{"a-b/tcp":{}}}`), "", true},
		{"an environment of text", configWith(`"config":{"Env":"A=1"}`), "cannot read", false},
		{"labels that are no text", configWith(`"config":{"Labels":{"a":1}}`), "cannot read", false},
		{"not UTF-8", configWith("\"author\":\"\xff\""), "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img, err := Parse(tc.config)
			if err != nil {
				t.Fatal(err)
			}
			err = CheckDocker(img)
			if tc.refuse == "" && err != nil {
				t.Error(err)
			}
			if tc.refuse != "" && (fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), tc.refuse) || !strings.Contains(fault.HintOf(err), "--rootfs")) {
				t.Errorf("%v (%s), want %q", err, fault.HintOf(err), tc.refuse)
			}
			if err := CheckDocker29(img); tc.refuse == "" && (err != nil) != tc.not29 {
				t.Errorf("Docker 29: %v", err)
			}
		})
	}
}
