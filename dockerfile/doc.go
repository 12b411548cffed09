// Package dockerfile turns the bytes of a Dockerfile into a plan of a build:
// which stages the target needs, what each step does with every variable
// resolved, and the image config that results.
//
// The package is pure. It opens no file, asks no clock, reads no environment
// and speaks to no registry, so the same input always gives the same plan and
// every rule can be written down as a golden file. What planning needs from
// outside (the configs of base images) is asked for instead of fetched:
//
//	f, err := dockerfile.Parse("Dockerfile", src)
//	...
//	o := dockerfile.PlanOptions{Images: map[dockerfile.ImageRequest]*dockerspec.DockerOCIImage{}}
//	for {
//		plan, err := f.Plan(o)
//		...
//		if len(plan.Missing) == 0 {
//			return plan, nil
//		}
//		for _, r := range plan.Missing {
//			o.Images[r] = resolve(r)
//		}
//	}
//
// The language is that of docker/dockerfile 1.26, read with BuildKit's own
// parser, instructions, shell and linter packages, together with buildah's
// FROM --after. Errors and warnings use BuildKit's words, because those are
// what people search for, and carry the lines they are about.
package dockerfile
