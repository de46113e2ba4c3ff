import com.sun.source.tree.CompilationUnitTree;
import com.sun.source.tree.LineMap;
import com.sun.source.tree.MethodTree;
import com.sun.source.util.JavacTask;
import com.sun.source.util.SourcePositions;
import com.sun.source.util.TreePathScanner;
import com.sun.source.util.Trees;
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.util.List;
import javax.tools.Diagnostic;
import javax.tools.DiagnosticCollector;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileObject;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;

/**
 * Prints the methods and constructors with bodies of each file named on
 * standard input, as javac parses them: path, name, line of the name, last
 * line, parted by tabs. A file with syntax errors gives "path<TAB>!".
 */
class JavaFunctions {
    public static void main(String[] args) throws Exception {
        JavaCompiler javac = ToolProvider.getSystemJavaCompiler();
        StandardJavaFileManager files = javac.getStandardFileManager(null, null, null);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        StringBuilder out = new StringBuilder();
        for (String path; (path = in.readLine()) != null; ) {
            String name = path;
            DiagnosticCollector<JavaFileObject> problems = new DiagnosticCollector<>();
            JavacTask task = (JavacTask) javac.getTask(null, files, problems, null, null,
                    files.getJavaFileObjects(new File(path)));
            Iterable<? extends CompilationUnitTree> units = task.parse();
            if (problems.getDiagnostics().stream().anyMatch(d -> d.getKind() == Diagnostic.Kind.ERROR)) {
                out.append(name).append("\t!\n");
                continue;
            }
            SourcePositions at = Trees.instance(task).getSourcePositions();
            for (CompilationUnitTree unit : units) {
                LineMap lines = unit.getLineMap();
                String text = unit.getSourceFile().getCharContent(true).toString();
                new TreePathScanner<Void, Void>() {
                    @Override
                    public Void visitMethod(MethodTree m, Void none) {
                        if (m.getBody() != null) {
                            String called = m.getName().toString();
                            if (called.equals("<init>")) {
                                called = ((com.sun.source.tree.ClassTree) getCurrentPath().getParentPath().getLeaf())
                                        .getSimpleName().toString();
                            }
                            // The name stands before the first parenthesis behind the result and modifiers.
                            long from = at.getStartPosition(unit, m);
                            if (m.getReturnType() != null) {
                                from = at.getEndPosition(unit, m.getReturnType());
                            } else if (at.getEndPosition(unit, m.getModifiers()) >= 0) {
                                from = at.getEndPosition(unit, m.getModifiers());
                            }
                            long named = text.indexOf(called, (int) from);
                            long last = at.getEndPosition(unit, m) - 1;
                            out.append(name).append('\t').append(called).append('\t')
                                    .append(lines.getLineNumber(named)).append('\t').append(lines.getLineNumber(last)).append('\n');
                        }
                        return super.visitMethod(m, none);
                    }
                }.scan(unit, null);
            }
        }
        System.out.print(out);
    }
}
