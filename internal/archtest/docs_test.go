package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"
)

// longest is the number of lines that no function outside tests exceeds.
const longest = 90

// source is one parsed file of a package.
type source struct {
	fset *token.FileSet
	file *ast.File
}

// sources parses the package's files, tests left out.
func sources(t *testing.T, p goPackage) []source {
	t.Helper()
	var all []source
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, source{fset, file})
	}
	return all
}

func TestEveryPackageHasAComment(t *testing.T) {
	for _, p := range packages(t) {
		files := sources(t, p)
		documented := slices.ContainsFunc(files, func(s source) bool { return s.file.Doc.Text() != "" })
		if len(files) > 0 && !documented {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func TestEveryExportedNameHasAComment(t *testing.T) {
	for _, p := range packages(t) {
		for _, s := range sources(t, p) {
			for _, name := range undocumented(s.file) {
				t.Errorf("%s: exported %s has no comment", s.fset.Position(name.Pos()), name.Name)
			}
		}
	}
}

// undocumented returns the exported names of a file that lack a comment. A
// comment on a group of constants or variables counts for all of them.
func undocumented(file *ast.File) []*ast.Ident {
	var names []*ast.Ident
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Doc == nil && d.Name.IsExported() && hasExportedReceiver(d) {
				names = append(names, d.Name)
			}
		case *ast.GenDecl:
			if d.Doc == nil {
				names = append(names, undocumentedSpecs(d)...)
			}
		}
	}
	return names
}

// undocumentedSpecs returns the exported names of a declaration without a
// comment of its own that lack one too.
func undocumentedSpecs(d *ast.GenDecl) []*ast.Ident {
	var names []*ast.Ident
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Doc == nil && s.Comment == nil && s.Name.IsExported() {
				names = append(names, s.Name)
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if s.Doc == nil && s.Comment == nil && name.IsExported() {
					names = append(names, name)
				}
			}
		}
	}
	return names
}

// hasExportedReceiver reports whether d is a function, or a method that users
// of the package can see. Methods that only satisfy an interface of the
// standard library need no words.
func hasExportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	wellKnown := []string{"Error", "Unwrap", "String", "Len", "Less", "Swap", "Read", "Write", "Close",
		"MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText", "Is", "As"}
	if slices.Contains(wellKnown, d.Name.Name) {
		return false
	}
	expr := d.Recv.List[0].Type
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	if index, ok := expr.(*ast.IndexExpr); ok {
		expr = index.X
	}
	name, ok := expr.(*ast.Ident)
	return ok && name.IsExported()
}

func TestFunctionsStayShort(t *testing.T) {
	for _, p := range packages(t) {
		for _, s := range sources(t, p) {
			for _, decl := range s.file.Decls {
				d, ok := decl.(*ast.FuncDecl)
				if !ok || d.Body == nil {
					continue
				}
				first := s.fset.Position(d.Pos())
				lines := s.fset.Position(d.End()).Line - first.Line + 1
				if lines > longest {
					t.Errorf("%s: %s has %d lines; at most %d can be read as one thought", first, d.Name.Name, lines, longest)
				}
			}
		}
	}
}
