package dockerfile

// Op is what a step does to the file system: one of *Run, *Copy, *Workdir and
// *Metadata. Ops are plain data. Their JSON says all that the step's result
// depends on except the content it reads from its Sources, so that a digest of
// it together with digests of that content identifies the result. Fields that
// don't influence the result are left out of the JSON. All strings in an Op
// are valid UTF-8, so different Ops never have the same JSON.
type Op interface{ op() }

func (*Run) op()      {}
func (*Copy) op()     {}
func (*Workdir) op()  {}
func (*Metadata) op() {}

// Run executes a command in the stage's file system.
type Run struct {
	// Args is the final argument vector: the shell is in front for the shell
	// form, and heredocs are folded in where BuildKit does so.
	Args []string
	// Env is the complete environment as "K=V": the image's so far, declared
	// build arguments with a value, and PATH.
	Env []string
	// ProxyEnv are the predefined proxy arguments given as build arguments, in
	// upper and lower case. They are put behind Env but, as with BuildKit,
	// don't belong to the identity of the step.
	ProxyEnv []string `json:"-"`
	User     string   `json:",omitempty"` // as in the image config: "name", "uid", "name:group"...; "" = root
	Dir      string   // absolute working directory
	Shell    []string `json:"-"` // what SHELL says, or the platform's default
	// Files are to be visible in the directory /dev/pipes for the time of the
	// command. There is one when the command is a heredoc that starts with #!.
	Files    []InlineFile `json:",omitempty"`
	Mounts   []Mount      `json:",omitempty"` // in the order of the flags
	Network  string       // "default", "none" or "host", or what PlanOptions.Network says
	Security string       // "sandbox" or "insecure"
	Devices  []Device     `json:",omitempty"`
	Hostname string       `json:",omitempty"` // "" = any; from the build argument BUILDKIT_SANDBOX_HOSTNAME
}

// InlineFile is a file whose content is in the Dockerfile.
type InlineFile struct {
	Name string
	Data []byte
	Mode uint32 // permission bits
}

// Device is a CDI device.
type Device struct {
	Name     string
	Required bool `json:",omitempty"`
}

// The types of mounts.
const (
	MountBind   = "bind"
	MountCache  = "cache"
	MountTmpfs  = "tmpfs"
	MountSecret = "secret"
	MountSSH    = "ssh"
)

// Mount is one RUN --mount with all defaults filled in.
type Mount struct {
	Type string
	// From is where a bind mount, or the initial content of a cache mount,
	// comes from. It is nil for the other types and for an empty cache.
	From *Source `json:"-"`
	// Source is the absolute path inside From; "/" is its root. Without From it
	// is the part of a cache that is mounted, "" for all of it.
	Source string `json:",omitempty"`
	// Target is the absolute path in the stage. It is "" for a secret that is
	// given by Env alone.
	Target   string `json:",omitempty"`
	ReadOnly bool   `json:",omitempty"` // false for a bind mount: writes are allowed and thrown away
	// ID names a cache (its default is the target), a secret or an ssh agent
	// ("default").
	ID       string  `json:",omitempty"`
	Sharing  string  `json:",omitempty"` // cache: "shared", "private" or "locked"
	Required bool    `json:",omitempty"` // secret, ssh: fail when there is none
	Size     int64   `json:",omitempty"` // tmpfs: limit in bytes, 0 = none
	Env      *string `json:",omitempty"` // secret: variable that gets the value
	// Owner is what a cache mount without a source says about mode, uid and
	// gid, "" if nothing. As with BuildKit, caches of the same ID that differ
	// in it are different ones, and one that has it begins empty.
	Owner string `json:",omitempty"`
	// Mode, UID and GID are those of the cache directory when it is created
	// (default 0755, 0, 0), the secret file (0400) or the socket (0600).
	Mode uint32 `json:",omitempty"`
	UID  uint32 `json:",omitempty"`
	GID  uint32 `json:",omitempty"`
}

// Source is a tree of files to read from. Exactly one of the fields says
// which, where Stage counts only when the others are not set.
type Source struct {
	Scratch bool          `json:",omitempty"` // an empty tree
	Context bool          `json:",omitempty"` // the main build context
	Named   *ImageRequest `json:",omitempty"` // a named context; its Context is the name
	Image   *ImageRequest `json:",omitempty"` // an image that is no stage
	Stage   int           // Plan id of an earlier stage; -1 when one of the others is set
}

// Copy brings files into the stage. It is COPY and, when Add is set, ADD.
type Copy struct {
	Add  bool   `json:",omitempty"`
	From Source `json:"-"`
	// Sources are absolute clean paths or patterns inside From, expanded. With
	// Parents each is "BASE/./REST", where the directories of REST are kept at
	// the destination.
	Sources []string `json:",omitempty"`
	// Spelled are Sources as they are written in the Dockerfile, expanded, for
	// messages.
	Spelled []string     `json:"-"`
	Remote  []Remote     `json:",omitempty"` // ADD: URLs and git repositories
	Files   []InlineFile `json:",omitempty"` // heredocs
	// Dest is absolute, with WORKDIR applied. A trailing slash is kept and
	// means a directory; so does more than one source.
	Dest  string
	Chown string `json:",omitempty"` // "user", "user:group", "uid:gid"...; "" = 0:0, for ADD of an archive what it says
	// Chmod is an octal number up to 7777 or symbolic ("u=rwX,go=rX"); "" =
	// modes are kept.
	Chmod   string   `json:",omitempty"`
	Link    bool     `json:",omitempty"` // independent of what is below
	Parents bool     `json:",omitempty"`
	Exclude []string `json:",omitempty"` // patterns as in ignore files, relative to each source
	// Unpack says whether archives are extracted. nil = local ones are for ADD,
	// remote ones are not.
	Unpack *bool `json:",omitempty"`
}

// Remote is a source of ADD that comes over the network.
type Remote struct {
	URL string // as written in the Dockerfile, expanded
	// Git is nil for a file fetched over http(s).
	Git *GitRef `json:",omitempty"`
	// Name is the file name for a file, "__unnamed__" when the URL has none.
	Name string `json:",omitempty"`
	// Checksum is the digest that a file must have ("sha256:..."), "" = any.
	// For git see GitRef.Checksum.
	Checksum string `json:",omitempty"`
}

// Workdir creates a directory unless it is there.
type Workdir struct {
	Path string // absolute and clean, never "/"
	User string `json:",omitempty"` // owner of directories that are created; "" = root
}

// Metadata changes nothing but the image config, where it already has been
// applied (Stage.Config).
type Metadata struct{}
