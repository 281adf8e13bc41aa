package destination

import (
	"strings"
	"testing"

	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/unpack"
)

func TestLeftOut(t *testing.T) {
	need.Root(t, "have capabilities")
	full, none := privilege.Current(), privilege.Process{}
	at := func(p privilege.Process, l privilege.Level) privilege.Process {
		p.Level = l
		return p
	}
	for _, c := range []struct {
		name   string
		rights privilege.Process
		stats  []unpack.Stats // of layers
		want   []string
	}{
		{"nothing", at(none, privilege.User), []unpack.Stats{{Entries: 3}}, nil},
		{"sums", at(none, privilege.User), []unpack.Stats{{NoOwner: 2, NoDevice: 1}, {NoOwner: 3}, {NoXattr: 1}}, []string{
			"1 extended attribute was left out: the file system or the kernel does not take them",
			"5 files belong to you and not to the image's owner, since fastpull is not running as root",
			"1 device was left out, since fastpull is not running as root",
		}},
		{"one owner", at(none, privilege.User), []unpack.Stats{{NoOwner: 1}}, []string{
			"1 file belongs to you and not to the image's owner, since fastpull is not running as root",
		}},
		{"namespace", at(full, privilege.Namespace), []unpack.Stats{{NoOwner: 2, NoDevice: 2}}, []string{
			"2 files belong to root and not to the image's owner, since this user namespace does not have that user or group",
			"2 devices were left out, since a user namespace cannot make any",
		}},
		{"namespace without capabilities", at(none, privilege.Namespace), []unpack.Stats{{NoOwner: 2}}, []string{
			"2 files belong to root and not to the image's owner, since fastpull is running without CAP_CHOWN",
		}},
		{"container", at(none, privilege.Reduced), []unpack.Stats{{NoOwner: 2, NoDevice: 2, NoXattr: 2, NoSetgid: 1}}, []string{
			"2 extended attributes were left out: fastpull is running without CAP_SETFCAP, or the file system does not take them",
			"2 files belong to root and not to the image's owner, since fastpull is running without CAP_CHOWN",
			"1 setgid bit was left out, since fastpull is running without CAP_FSETID",
			"2 devices were left out, since fastpull is running without CAP_MKNOD",
		}},
		{"container with a filter", at(full, privilege.Reduced), []unpack.Stats{{NoDevice: 2}}, []string{
			"2 devices were left out, since the kernel or the file system refuses that",
		}},
	} {
		var out strings.Builder
		d := progress.New(progress.Options{Mode: progress.Plain, Out: &out})
		var l LeftOut
		for _, s := range c.stats {
			l.Add(s)
		}
		l.Warn(d, c.rights)
		d.Close()
		want := ""
		for _, line := range c.want {
			want += "warning: " + line + "\n"
		}
		if out.String() != want {
			t.Errorf("%s:\n%swant\n%s", c.name, out.String(), want)
		}
	}
}
