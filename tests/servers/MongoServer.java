import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.h2.mvstore.MVStore;

/**
 * mongo-java-server as a server that keeps what it has acknowledged, whatever kills it.
 *
 * <p>Arguments: port, file of the data or "memory", file of a fault. While the latter exists, it says "COMMAND CODE TEXT", and that
 * command is answered by that error.
 */
public class MongoServer {
    public static void main(String[] arguments) throws Exception {
        Path fault = Path.of(arguments[2]);
        String data = arguments[1].equals("memory") ? null : arguments[1];
        MVStore file = new MVStore.Builder().fileName(data).autoCommitDisabled()
            .autoCommitBufferSize(0).open();
        H2Backend backend = new H2Backend(file) {
            @Override
            public Document handleMessage(MongoMessage message) {
                String command = message.getDocument().keySet().iterator().next();
                // A driver takes a server for gone, and gives up what it has asked, if this is not answered in time.
                return command.equalsIgnoreCase("isMaster") ? super.handleMessage(message) : carryOut(command, message);
            }

            // One at a time, so that no commit holds half of another command: a document without its index, say.
            private synchronized Document carryOut(String command, MongoMessage message) {
                String[] words = Files.exists(fault) ? read(fault).split(" ", 3) : new String[] {""};
                if (command.equals(words[0])) {
                    return new Document("ok", 0).append("code", Integer.parseInt(words[1])).append("errmsg", words[2]);
                }
                Document answer = super.handleMessage(message);
                commit();
                return answer;
            }
        };
        // It does what the driver asks of 5.0, but says that it is older than what the driver takes.
        backend.version(new MongoVersion() {
            public List<Integer> getVersionArray() {
                return List.of(5, 0, 0);
            }

            public int getWireVersion() {
                return 13;
            }
        });
        new de.bwaldvogel.mongo.MongoServer(backend).bind("127.0.0.1", Integer.parseInt(arguments[0]));
        System.out.println("ready");
        Thread.currentThread().join();
    }

    private static String read(Path path) {
        try {
            return Files.readString(path).strip();
        } catch (java.io.IOException gone) {
            return "";
        }
    }
}
