// Package registry brings images into the store and out of it: from and to
// registries over HTTP, image layouts and archives. It is the only package that
// talks to a registry, and the only one that knows how credentials, mirrors,
// short names and signature policies are configured.
//
// A Reference names an image somewhere; a Client reads it:
//
//	ref, err := registry.ParseReference("alpine")      // docker.io/library/alpine:latest
//	config, manifest, err := client.Config(ctx, ref, platform) // no layers are fetched
//	...
//	image, err := client.Pull(ctx, ref, registry.PullOptions{Manifest: manifest})
//
// # Files read
//
// Credentials come from Client.Creds, else from Client.AuthFile or
// $REGISTRY_AUTH_FILE, else from $XDG_RUNTIME_DIR/containers/auth.json,
// $XDG_CONFIG_HOME/containers/auth.json, $DOCKER_CONFIG/config.json or
// ~/.docker/config.json, and the credential helpers these files name.
// Mirrors, insecure registries and short names come from registries.conf,
// certificates from /etc/containers/certs.d and /etc/docker/certs.d, and the
// signature policy from policy.json; a machine without a policy accepts any
// image, as docker does.
//
// # Trust
//
// A registry is not trusted: manifests and configs are bounded in size, and
// whatever does not match its digest or its size is refused, as is an image
// whose layers are not the ones its config lists. Credentials and signed query
// strings do not appear in errors.
package registry
