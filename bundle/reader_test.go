package bundle

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/ulikunitz/xz"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/testkit"
)

// compressed has layers in gzip in a bundle: those whose first file is called so.
const compressed = "gzip:"

// layerOf is a layer with one file.
func layerOf(name, content string) string { return string(testkit.Tar(testkit.Text(name, content))) }

// blobOf is a layer as it is in the bundle.
func blobOf(content string) (blob []byte, mediaType string) {
	if !strings.HasPrefix(content, compressed) {
		return []byte(content), ocispec.MediaTypeImageLayer
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, content)
	z.Close()
	return b.Bytes(), ocispec.MediaTypeImageLayerGzip
}

// addWhole adds an image with its manifest.
func addWhole(t *testing.T, w *Writer, name string, layers ...string) {
	t.Helper()
	img := testImage(t, name, layers...)
	var list []ocispec.Descriptor
	var digests []digest.Digest
	for _, l := range layers {
		blob, mediaType := blobOf(l)
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
		if err := w.Blob(d.Digest, d.Size, bytes.NewReader(blob)); err != nil {
			t.Fatal(err)
		}
		list, digests = append(list, d), append(digests, d.Digest)
	}
	add(t, w, string(img.Config))
	raw, err := Manifest([]byte("{}"), img, list)
	if err != nil {
		t.Fatal(err)
	}
	add(t, w, string(raw))
	w.Docker(img, []string{name}, digests)
	w.Entry(Entry{Name: name, Source: name + "@" + digest.FromBytes(raw).String(), Descriptor: ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw)),
	}}.Annotated())
}

// write makes a bundle of three images that share layers.
func write(t *testing.T, w io.Writer) {
	t.Helper()
	b := NewWriter(w)
	random := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) string {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		return string(data)
	}
	base, big := layerOf("base", noise(1000)), layerOf(compressed, noise(70_000))
	padded := layerOf("padded", noise(511)) + strings.Repeat("\x00", 511)
	addWhole(t, b, "host:5000/one:1", base, big)
	addWhole(t, b, "host:5000/two:1", base, padded, layerOf("small", noise(512)))
	addWhole(t, b, "host:5000/three:1", base, big, "")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

func written(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	write(t, &b)
	return b.Bytes()
}

// openBytes opens a file of these bytes.
func openBytes(t *testing.T, data []byte) (*Reader, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "b.tar")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return openFile(t, name)
}

func openFile(t *testing.T, name string) (*Reader, error) {
	t.Helper()
	r, err := Open(t.Context(), name, OpenOptions{TempDir: t.TempDir()})
	if err == nil {
		t.Cleanup(func() { r.Close() })
	}
	return r, err
}

// check opens and verifies.
func check(t *testing.T, r *Reader, err error) error {
	t.Helper()
	if err == nil {
		err = r.Verify(t.Context(), VerifyOptions{DiffIDs: true})
	}
	return err
}

func expectThree(t *testing.T, r *Reader, err error) {
	t.Helper()
	if err := check(t, r, err); err != nil {
		t.Fatal(err)
	}
	l, err := r.List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range l.Images {
		got = append(got, fmt.Sprintf("%s %d", i.Name, len(i.Layers)))
	}
	if want := []string{"host:5000/one:1 2", "host:5000/two:1 3", "host:5000/three:1 3"}; !slices.Equal(got, want) {
		t.Errorf("images %q, want %q", got, want)
	}
}

// TestOpen reads one file, parts by each of their names, what is compressed, and a
// stream.
func TestOpen(t *testing.T) {
	need.Time(t, "a bundle in all its forms")
	whole := written(t)
	for _, name := range []string{"b.tar", "b.tar.gz", "b.tar.zst"} {
		for _, split := range []int64{0, 1, 512, 1000, 7777} {
			dir := t.TempDir()
			if split == 1 {
				split = int64(len(whole)/MaxParts + 1)
			}
			f := create(t, filepath.Join(dir, name), split)
			write(t, f)
			publish(t, f)
			names := append([]string{f.Name()}, f.Parts()...)
			for _, n := range []string{names[0], names[len(names)-1]} {
				r, err := openFile(t, n)
				expectThree(t, r, err)
				if r.Size() != int64(len(whole)) || r.Blobs() != 11 {
					t.Errorf("%s: %d bytes, %d blobs", n, r.Size(), r.Blobs())
				}
			}
		}
	}
	r, err := OpenStream(t.Context(), bytes.NewReader(whole), OpenOptions{TempDir: t.TempDir()})
	expectThree(t, r, err)
	r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := OpenStream(ctx, bytes.NewReader(whole), OpenOptions{TempDir: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestFlippedByte changes a byte anywhere: it is found, and of a blob its name is
// told.
func TestFlippedByte(t *testing.T) {
	need.Time(t, "a bundle is read for each of its bytes")
	whole := written(t)
	r, err := openBytes(t, whole)
	expectThree(t, r, err)
	at := map[int]bool{}
	for _, m := range r.members { // the edges of everything
		for _, i := range []int64{m.header, m.header + 511, m.off, m.off + m.size - 1, m.off + m.size} {
			at[int(min(i, r.src.Size()-1))] = true
		}
	}
	at[len(whole)-1], at[len(whole)-1024] = true, true
	random := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		at[random.IntN(len(whole))] = true
	}
	for i := range at {
		bad := bytes.Clone(whole)
		bad[i] ^= 1 << random.IntN(8)
		r2, err := openBytes(t, bad)
		if err = check(t, r2, err); fault.KindOf(err) != fault.Corrupt {
			t.Errorf("byte %d: %v", i, err)
			continue
		}
		for name, m := range r.members {
			hex, isBlob := strings.CutPrefix(name, "blobs/sha256/")
			if isBlob && int64(i) >= m.off && int64(i) < m.off+m.size && !strings.Contains(err.Error(), hex) {
				t.Errorf("byte %d is of %s: %v", i, name, err)
			}
		}
	}
}

// TestTruncatedBundle ends it early, at every edge and anywhere.
func TestTruncatedBundle(t *testing.T) {
	whole := written(t)
	r, err := openBytes(t, whole)
	expectThree(t, r, err)
	var at []int64
	for _, m := range r.members {
		at = append(at, m.header-1, m.header, m.header+1, m.off, m.off+m.size)
	}
	for i := range int64(60) {
		at = append(at, i*int64(len(whole))/60)
	}
	at = append(at, int64(len(whole)-1), int64(len(whole)-512), int64(len(whole)-1024))
	for _, n := range at {
		r, err := openBytes(t, whole[:max(n, 0)])
		if err = check(t, r, err); fault.KindOf(err) != fault.Corrupt {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	if r, err := openBytes(t, append(bytes.Clone(whole), 'x')); check(t, r, err) == nil {
		t.Error("a byte behind it is not seen")
	}
}

// TestMissingPart lacks one of several.
func TestMissingPart(t *testing.T) {
	for _, tc := range []struct {
		part int
		kind fault.Kind
		say  string
	}{{1, fault.NotFound, "part001"}, {2, fault.NotFound, "part002 is missing"}, {4, fault.Corrupt, "truncated"}} {
		dir := t.TempDir()
		f := create(t, filepath.Join(dir, "b.tar"), int64(len(written(t))/4+512))
		write(t, f)
		publish(t, f)
		if len(f.Parts()) != 4 {
			t.Fatal(f.Parts())
		}
		if err := os.Remove(f.Parts()[tc.part-1]); err != nil {
			t.Fatal(err)
		}
		_, err := openFile(t, f.Name())
		if fault.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.say) || tc.part == 4 && !strings.Contains(fault.HintOf(err), "part003") {
			t.Errorf("without part %d: %v (hint %q)", tc.part, err, fault.HintOf(err))
		}
	}
}

// entry is a member of a made-up archive.
type entry struct {
	name, content string
	typ           byte
	link          string
}

func tarOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var files []testkit.File
	for _, e := range entries {
		files = append(files, testkit.File{Header: tar.Header{Name: e.name, Typeflag: e.typ, Linkname: e.link}, Content: e.content})
	}
	return testkit.Tar(files...)
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestHostileBundle has archives that somebody made up.
func TestHostileBundle(t *testing.T) {
	layer, size := layerOf("file", "layer"), int64(len(layerOf("file", "layer")))
	img := testImage(t, "x", layer)
	l := digest.FromString(layer)
	blob := func(s string) entry { return entry{name: blobName(digest.FromString(s)), content: s} }
	manifest := func(size int64) string {
		raw, err := Manifest([]byte("{}"), img, []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: l, Size: size}})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	index := func(manifests ...string) entry {
		var list []ocispec.Descriptor
		for _, m := range manifests {
			list = append(list, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(m), Size: int64(len(m))})
		}
		return entry{name: "index.json", content: jsonOf(t, ocispec.Index{Manifests: list})}
	}
	good, config := manifest(size), string(img.Config)
	docker := func(images ...dockerImage) entry { return entry{name: "manifest.json", content: jsonOf(t, images)} }
	for _, tc := range []struct {
		name    string
		entries []entry
		say     string // "" for what is fine
	}{
		{"fine", []entry{index(good), blob(good), blob(config), blob(layer)}, ""},
		{"fine, in a folder", []entry{{name: "./", typ: tar.TypeDir}, {name: "./index.json", content: index(good).content}, blob(good), blob(config), blob(layer)}, ""},
		{"up", []entry{index(good), {name: "../x", content: "x"}}, `"../x"`},
		{"up in the middle", []entry{index(good), {name: "blobs/../../x"}}, "blobs/../../x"},
		{"absolute", []entry{index(good), {name: "/etc/passwd"}}, "/etc/passwd"},
		{"a device", []entry{index(good), {name: "x", typ: tar.TypeChar}}, "neither file nor directory"},
		{"twice", []entry{index(good), blob(layer), blob(layer)}, "twice"},
		{"two sizes", []entry{index(good, manifest(size+1)), blob(good), blob(manifest(size + 1)), blob(config), blob(layer)}, fmt.Sprintf("named with %d bytes and with %d", size, size+1)},
		{"two sizes of a manifest", []entry{{name: "index.json", content: jsonOf(t, ocispec.Index{Manifests: []ocispec.Descriptor{
			{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(good), Size: int64(len(good))},
			{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(good), Size: 7},
		}})}, blob(good), blob(config), blob(layer)}, fmt.Sprintf("named with %d bytes and with 7", len(good))},
		{"another size of a manifest", []entry{{name: "index.json", content: jsonOf(t, ocispec.Index{Manifests: []ocispec.Descriptor{
			{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(good), Size: 7},
		}})}, blob(good), blob(config), blob(layer)}, fmt.Sprintf("has %d bytes, and its descriptor says 7", len(good))},
		{"two sizes of what is not there", []entry{index(good, manifest(size+1)), blob(good), blob(manifest(size + 1)), blob(config)}, fmt.Sprintf("named with %d bytes and with %d", size, size+1)},
		{"another size", []entry{index(manifest(size + 1)), blob(manifest(size + 1)), blob(config), blob(layer)}, fmt.Sprintf("has %d bytes, and its descriptor says %d", size, size+1)},
		{"no layer", []entry{index(good), blob(good), blob(config)}, "layer " + l.String() + " is missing"},
		{"no config", []entry{index(good), blob(good), blob(layer)}, img.ID.String()},
		{"no manifest", []entry{index(good), blob(config), blob(layer)}, digest.FromString(good).String()},
		{"no index", []entry{blob(good)}, "neither index.json nor manifest.json"},
		{"no JSON", []entry{{name: "index.json", content: "{"}}, "index.json"},
		{"a digest that is a path", []entry{{name: "index.json", content: `{"manifests":[{"digest":"sha256:../../x","size":1}]}`}}, "digest"},
		{"a negative size", []entry{{name: "index.json", content: `{"manifests":[{"digest":"` + l.String() + `","size":-1}]}`}}, "size"},
		{"another layer", []entry{index(good), blob(good), blob(config), {name: blobName(l), content: strings.Replace(layer, "layer", "Layer", 1)}}, "blob " + l.String() + " is damaged"},
		{"a layer that is none", []entry{docker(dockerImage{Config: "c.json", Layers: []string{"a.tar"}}), {name: "c.json", content: config}, {name: "a.tar", content: layerOf("file", "another")}}, "diffID"},
		{"docker", []entry{docker(dockerImage{Config: "c.json", RepoTags: []string{"a:b"}, Layers: []string{"1/layer.tar"}}), {name: "c.json", content: config}, {name: "1/layer.tar", content: layer}}, ""},
		{"docker with links", []entry{docker(dockerImage{Config: "c.json", Layers: []string{"2/layer.tar"}}), {name: "c.json", content: config}, {name: "1/layer.tar", content: layer}, {name: "2/layer.tar", typ: tar.TypeSymlink, link: "../1/layer.tar"}}, ""},
		{"a link outside", []entry{docker(dockerImage{Config: "c.json", Layers: []string{"2/layer.tar"}}), {name: "c.json", content: config}, {name: "2/layer.tar", typ: tar.TypeSymlink, link: "../../etc/passwd"}}, "missing"},
		{"a link to itself", []entry{docker(dockerImage{Config: "c.json", Layers: []string{"a"}}), {name: "c.json", content: config}, {name: "a", typ: tar.TypeSymlink, link: "a"}}, "missing"},
		{"a config outside", []entry{docker(dockerImage{Config: "../../etc/passwd"})}, "missing"},
		{"too few layers", []entry{docker(dockerImage{Config: "c.json"}), {name: "c.json", content: config}}, "0 layers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := openBytes(t, tarOf(t, tc.entries...))
			err = check(t, r, err)
			if tc.say == "" {
				if err != nil || len(r.Entries()) != 1 {
					t.Errorf("%v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.say) || fault.KindOf(err) != fault.Corrupt && fault.KindOf(err) != fault.NotFound {
				t.Errorf("error: %v, want %q", err, tc.say)
			}
		})
	}
	for name, data := range map[string][]byte{"empty": nil, "zeroes": make([]byte, 2048), "no tar": bytes.Repeat([]byte("no tar "), 300)} {
		if _, err := openBytes(t, data); fault.KindOf(err) != fault.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := openFile(t, filepath.Join(t.TempDir(), "none")); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestPackedAnew says what is the matter with a bundle whose files another program
// has put into a new tar, once and not of each of them.
func TestPackedAnew(t *testing.T) {
	var entries []entry
	for old := tar.NewReader(bytes.NewReader(written(t))); ; {
		h, err := old.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(old)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, entry{name: "./" + h.Name, content: string(data)})
	}
	r, err := openBytes(t, tarOf(t, entries...))
	err = check(t, r, err)
	if fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), "packed it anew") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error: %v", err)
	}
}

// TestForeignCompressed opens an archive that was compressed by somebody, in any of the
// formats of layers.
func TestForeignCompressed(t *testing.T) {
	whole := written(t)
	pack := testkit.Compress[io.WriteCloser]
	gz := func(data []byte) []byte {
		return pack(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }, data)
	}
	zs := func(o ...zstd.EOption) []byte {
		return pack(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w, o...) }, whole)
	}
	for name, data := range map[string][]byte{
		"gzip": gz(whole), "two members": append(gz(whole[:5000]), gz(whole[5000:])...), "gzip, padded": append(gz(whole), make([]byte, 700)...),
		"zstd": zs(), "zstd --long=29": zs(zstd.WithWindowSize(512 << 20)),
		"xz": pack(func(w io.Writer) (io.WriteCloser, error) { return xz.WriterConfig{DictCap: 1 << 20}.NewWriter(w) }, whole),
	} {
		r, err := openBytes(t, data)
		expectThree(t, r, err)
		if name == "gzip, padded" {
			continue
		}
		for _, cut := range []int{len(data) / 2, len(data) - 3} {
			if _, err := openBytes(t, data[:cut]); fault.KindOf(err) != fault.Corrupt {
				t.Errorf("%s, cut at %d: %v", name, cut, err)
			}
		}
	}
	if _, err := openBytes(t, []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 20 << 3, 1, 0, 0}); fault.KindOf(err) != fault.Failed || !strings.Contains(fault.HintOf(err), "--long=29") {
		t.Errorf("a window of 1 GiB: %v", err)
	}
	// A full disk is not the archive's fault.
	if _, err := Open(t.Context(), writeFile(t, gz(whole)), OpenOptions{TempDir: filepath.Join(t.TempDir(), "none")}); err == nil || fault.KindOf(err) == fault.Corrupt {
		t.Errorf("no place for it: %v", err)
	}
}

func writeFile(t *testing.T, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "b.tar")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestFits verifies layers whose bytes are not what their media type, or their diffID,
// says. It is the bytes that count, with and without decompressing them.
func TestFits(t *testing.T) {
	plain := layerOf("BZh91AY&SY", "content")
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, plain)
	z.Close()
	gz := b.String()
	b.Reset()
	z = gzip.NewWriter(&b)
	io.WriteString(z, "text")
	z.Close()
	for _, tc := range []struct {
		name, blob, mediaType string
		diffID                digest.Digest
		fast, full            string // in the errors, "" for what is fine
	}{
		{"gzip as a tar", gz, ocispec.MediaTypeImageLayer, digest.FromString(plain), "", ""},
		{"a tar as gzip", plain, ocispec.MediaTypeImageLayerGzip, digest.FromString(plain), "", ""},
		{"gzip of no type", gz, "", digest.FromString(plain), "", ""},
		{"the diffID of gzip", gz, ocispec.MediaTypeImageLayerGzip, digest.FromString(gz), "compressed with gzip", "compressed with gzip"},
		{"another diffID of a tar", plain, ocispec.MediaTypeImageLayerGzip, digest.FromString("x"), "another diffID", "another diffID"},
		{"another diffID of gzip", gz, ocispec.MediaTypeImageLayer, digest.FromString("x"), "", "diffID"},
		{"no layer", "text", ocispec.MediaTypeImageLayer, digest.FromString("text"), "neither a tar nor compressed", "neither a tar nor compressed"},
		{"no tar in gzip", b.String(), ocispec.MediaTypeImageLayerGzip, digest.FromString("text"), "", "no valid tar"},
		{"half a tar", plain[:515], ocispec.MediaTypeImageLayer, digest.FromString(plain[:515]), "", "no valid tar"},
	} {
		var out bytes.Buffer
		w := NewWriter(&out)
		config := jsonOf(t, map[string]any{"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"type": "layers", "diff_ids": []digest.Digest{tc.diffID}}})
		img, err := image.Parse([]byte(config))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := Manifest([]byte("{}"), img, []ocispec.Descriptor{{MediaType: tc.mediaType, Digest: digest.FromString(tc.blob), Size: int64(len(tc.blob))}})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{tc.blob, config, string(raw)} {
			add(t, w, s)
		}
		w.Entry(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))})
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := openBytes(t, out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		for full, say := range map[bool]string{false: tc.fast, true: tc.full} {
			err := r.Verify(t.Context(), VerifyOptions{DiffIDs: full})
			if (err == nil) != (say == "") || err != nil && (fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), say)) {
				t.Errorf("%s, decompressed %t: %v, want %q", tc.name, full, err, say)
			}
		}
	}
}

// TestUnracedBounds has archives that would need much memory for what they are called and list.
func TestUnracedBounds(t *testing.T) {
	need.NoDetector(t)
	need.Time(t, "archives of many entries")
	long := strings.Repeat("n/", maxName/2-8)
	files := func(n int, name func(i int) string) string {
		f, err := os.Create(filepath.Join(t.TempDir(), "b.tar"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		out := bufio.NewWriterSize(f, 1<<20)
		w := tar.NewWriter(out)
		for i := range n {
			if err := w.WriteHeader(&tar.Header{Name: name(i), Typeflag: tar.TypeReg}); err != nil {
				t.Fatal(err)
			}
		}
		if err := out.Flush(); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
	for what, tc := range map[string]struct{ file, say string }{
		"a long name":     {files(1, func(int) string { return long + long + "n" }), "too long"},
		"many long names": {files(maxNames/len(long)+1, func(i int) string { return long + fmt.Sprint(i) }), "too long"},
		"many files":      {files(maxMembers+1, func(i int) string { return fmt.Sprint(i) }), "more than"},
		"many objects":    {writeFile(t, tarOf(t, entry{name: indexName, content: `{"manifests":[` + strings.Repeat("{},", 1<<17) + `{}]}`})), "objects"},
		"many images":     {writeFile(t, tarOf(t, entry{name: manifestName, content: `[` + strings.Repeat("{},", 1<<17) + `{}]`})), "objects"},
		"many layers":     {writeFile(t, tarOf(t, entry{name: manifestName, content: `[{"Layers":[` + strings.Repeat(`"",`, 1<<19) + `""]}]`})), "values"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := openFile(t, tc.file)
		runtime.ReadMemStats(&after)
		if fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: %v", what, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 1<<29 && what != "many long names" {
			t.Errorf("%s: %d MiB", what, got>>20)
		}
	}
}

// TestListIsBounded: a small index can name an image of many layers again and again.
func TestListIsBounded(t *testing.T) {
	layers := make([]string, image.MaxLayers)
	for i := range layers {
		layers[i] = layerOf(fmt.Sprint(i), "")
	}
	var b bytes.Buffer
	w := NewWriter(&b)
	addWhole(t, w, "host:5000/many:1", layers...)
	e := w.entries[0]
	for range maxListed / len(layers) {
		w.Entry(ocispec.Descriptor{MediaType: e.MediaType, Digest: e.Digest, Size: e.Size})
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := openBytes(t, b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.List(); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("%d entries: %v", len(r.Entries()), err)
	}
}
