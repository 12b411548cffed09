package dockerfile

// GitRef is a git repository as a source of files.
type GitRef struct {
	Remote        string // what to give to git: "https://github.com/x/y.git"
	Ref           string `json:",omitempty"` // commit, tag or branch; "" = the default branch
	Subdir        string `json:",omitempty"` // relative to the repository; "" = all of it
	Checksum      string `json:",omitempty"` // commit that Ref must be; "" = any
	KeepGitDir    bool   `json:",omitempty"`
	SkipSubmodule bool   `json:",omitempty"`
	FetchByCommit bool   `json:",omitempty"` // fetch Checksum itself and don't compare it with Ref
	MTime         string `json:",omitempty"` // "checkout" or "commit"; "" = checkout
}
