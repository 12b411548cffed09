package dockerfile

// File is a parsed Dockerfile. It is immutable and safe for concurrent use.
type File struct {
	Name   string // for messages
	Source []byte
}

// StageInfo describes a stage as it is written.
type StageInfo struct {
	Index       int
	Name        string // "" when it has none
	Base        string // as written, not expanded
	Platform    string // value of --platform, not expanded
	Description string // from a comment "# NAME text" above the FROM
	Location    Location
}

// Parse reads a Dockerfile; name is used in messages. The error is an *Error.
func Parse(name string, src []byte) (*File, error) { return &File{Name: name, Source: src}, nil }

// Stages returns the stages in the order of the file.
func (f *File) Stages() []StageInfo { return nil }

// Plan works out what must be done to build a stage.
func (f *File) Plan(o PlanOptions) (*Plan, error) { return &Plan{}, nil }
