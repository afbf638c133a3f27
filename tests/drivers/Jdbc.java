import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import org.postgresql.PGConnection;

/** The JDBC driver, unchanged: prepared, batches, cursors, COPY, time-outs by cancel, errors, denials. */
public class Jdbc {
    public static void main(String[] args) throws Exception {
        String url = "jdbc:postgresql://" + args[0] + ":" + args[1] + "/" + args[3];
        Properties settings = new Properties();
        settings.setProperty("user", args[2]);
        settings.setProperty("sslmode", "verify-full");
        settings.setProperty("sslrootcert", args[4]);
        settings.setProperty("sslcert", args[5]);
        settings.setProperty("sslkey", args[6]);
        try (Connection conn = DriverManager.getConnection(url, settings)) {
            try (Statement statement = conn.createStatement()) {
                statement.execute("create temp table t (id int primary key, name text)");
            }
            try (PreparedStatement put = conn.prepareStatement("insert into t values (?, ?)")) {
                for (int n = 0; n < 1000; n++) {
                    put.setInt(1, n);
                    put.setString(2, n % 5 == 0 ? null : "row " + n);
                    put.addBatch();
                }
                check(put.executeBatch().length == 1000, "batch");
            }
            conn.setAutoCommit(false);
            try (Statement statement = conn.createStatement()) {
                statement.setFetchSize(10);
                int n = 0;
                try (ResultSet rows = statement.executeQuery("select id from t order by id")) {
                    while (rows.next()) {
                        check(rows.getInt(1) == n++, "order");
                    }
                }
                check(n == 1000, "cursor");
            }
            conn.commit();
            conn.setAutoCommit(true);
            var copy = conn.unwrap(PGConnection.class).getCopyAPI();
            check(copy.copyIn("copy t from stdin", new StringReader("5000\tx\n5001\t\\N\n")) == 2, "in");
            StringWriter out = new StringWriter();
            copy.copyOut("copy (select * from t where id >= 5000 order by id) to stdout", out);
            check(out.toString().equals("5000\tx\n5001\t\\N\n"), out.toString());
            try (Statement statement = conn.createStatement()) {
                statement.execute("insert into t values (1)");
                throw new AssertionError("no error");
            } catch (SQLException err) {
                check(err.getSQLState().equals("23505"), err.toString());
            }
            try (Statement statement = conn.createStatement()) {
                var timer = Executors.newSingleThreadScheduledExecutor();
                timer.schedule(() -> { statement.cancel(); return null; }, 1, TimeUnit.SECONDS);
                statement.execute("select pg_sleep(600)");
                throw new AssertionError("not cancelled");
            } catch (SQLException err) {
                check(err.getSQLState().equals("57014"), err.toString());
            }
            try (Statement statement = conn.createStatement();
                    ResultSet rows = statement.executeQuery("select 9")) {
                check(rows.next() && rows.getInt(1) == 9, "afterwards");
            }
        }
        settings.setProperty("user", "postgres");
        try (Connection conn = DriverManager.getConnection(url, settings)) {
            throw new AssertionError("not denied");
        } catch (SQLException err) {
            check(err.getSQLState().equals("28000"), err.toString());
            check(err.getMessage().contains("access denied, or there is no such thing"), err.toString());
        }
        System.out.println("ok");
        System.exit(0);
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}
