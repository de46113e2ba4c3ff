package codebase

import (
	"go/ast"
	"go/token"
)

// goComplexity is the cyclomatic complexity of a piece of Go: 1 plus its
// decisions (McCabe, "A Complexity Measure", IEEE TSE 1976), counted as
// gocyclo counts them: if, for, range, each case that is not the default, each
// communication of a select that is not the default, && and ||. Function
// literals count for the function that holds them.
func goComplexity(n ast.Node) int {
	c := 1
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			c++
		case *ast.CaseClause:
			if n.List != nil {
				c++
			}
		case *ast.CommClause:
			if n.Comm != nil {
				c++
			}
		case *ast.BinaryExpr:
			if n.Op == token.LAND || n.Op == token.LOR {
				c++
			}
		}
		return true
	})
	return c
}
