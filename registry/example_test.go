package registry_test

import (
	"fmt"

	"cooper/registry"
)

func ExampleParseReference() {
	for _, s := range []string{"alpine", "localhost:5000/app:1", "oci-layout://./image:v1", "Alpine"} {
		ref, err := registry.ParseReference(s)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%s: %q in %q\n", ref.Transport(), ref.Name(), ref.Registry()+ref.Path())
	}
	// Output:
	// docker: "docker.io/library/alpine:latest" in "docker.io"
	// docker: "localhost:5000/app:1" in "localhost:5000"
	// oci: "" in "./image"
	// invalid reference "Alpine": image names are lower case: try "alpine"
}
