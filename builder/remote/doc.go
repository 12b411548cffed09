// Package remote brings what a build reads from elsewhere into directories of
// the store's own: archives (Unpack), git repositories (Resolve, Checkout) and
// files served over HTTP (Fetch).
//
//	c := &remote.Client{Store: store}
//	commit, err := c.Resolve(ctx, ref)       // what branch "main" is now
//	tree, err := c.Checkout(ctx, ref, commit)
//	defer tree.Close()
//	... tree.Dir ...
//
// Everything that is read here may be hostile. An entry of an archive is written
// through an os.Root, so that neither names nor links lead out of the tree. git
// runs without hooks, templates, prompts and the configuration of user and
// system, speaks http, https, ssh and git only, and is never given an argument
// that it could take for an option.
//
// # On disk
//
// All is below Store.Dir:
//
//	http/SHA256           a file that Fetch got, named by its content
//	git/SHA256.git        a bare repository, named by the URL it mirrors
//	git/SHA256.lock       locked while a process works with the repository
//	git/known_hosts       the keys of ssh hosts that were met
//	trees/NAME/lock       locked for as long as the tree NAME is in use
//	trees/NAME/files      the tree itself
//
// Trees that no process has locked are left by one that was killed; making the
// next tree sweeps them away.
package remote
