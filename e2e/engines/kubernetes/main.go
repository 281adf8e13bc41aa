// Command kubernetes builds a kustomization and decodes what comes out, as a cluster would.
//
//	kubernetes build DIR       the objects of the kustomization at DIR, as a list in JSON
//	kubernetes json FILE...    the documents of YAML files, as a list in JSON
//	kubernetes metrics FILE    the names of the metrics in a text of Prometheus, one a line
//
// build decodes each object strictly into the type of its API: a field that the API does not
// have, or that is there twice, is an error. So is a kind that is not known here.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	sigsyaml "sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) < 2 {
		return errors.New("usage: kubernetes build DIR | json FILE... | metrics FILE")
	}
	switch args[0] {
	case "build":
		return build(args[1], out)
	case "json":
		return documents(args[1:], out)
	case "metrics":
		return metrics(args[1], out)
	}
	return fmt.Errorf("there is no command %q", args[0])
}

// build prints the objects of a kustomization.
func build(dir string, out io.Writer) error {
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(appsv1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		return err
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var list []runtime.Object
	for _, r := range made.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			return err
		}
		object, _, err := decoder.Decode(text, nil, nil)
		if err != nil {
			return fmt.Errorf("%s %s: %w", r.GetKind(), r.GetName(), err)
		}
		list = append(list, object)
	}
	return json.NewEncoder(out).Encode(list)
}

// documents prints YAML as JSON.
func documents(files []string, out io.Writer) error {
	list := []json.RawMessage{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, part := range bytes.Split(append([]byte("\n"), text...), []byte("\n---\n")) {
			one, err := sigsyaml.YAMLToJSONStrict(part)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			list = append(list, one)
		}
	}
	return json.NewEncoder(out).Encode(list)
}

// metrics prints the names of metrics.
func metrics(name string, out io.Writer) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(f)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, name := range slices.Sorted(maps.Keys(families)) {
		fmt.Fprintln(out, name)
	}
	return nil
}
